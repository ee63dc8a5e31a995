import type { Lineage, LineageQuery } from '../catalog/lineage.ts';
import type { RunFilter, TableView } from '../catalog/views.ts';
import type { RunEvent, TaskEvent } from '../runs/events.ts';
import type { Dataset } from '../runs/run.ts';
import type {
  Acknowledgement,
  BatchReport,
  Changes,
  EventBody,
  NewRunBody,
  RunSummary,
  RunsPage,
  RunView,
  TablesPage,
  TaskBody,
} from '../service/schemas.ts';
import { type CallOptions, type ClientOptions, Http } from './http.ts';

export { type CallOptions, type ClientOptions, ServiceError } from './http.ts';

export interface ReadOptions extends CallOptions {
  /** How old the answer may be; 0 shows everything that was acknowledged before. Default: what the service says. */
  maxAgeS?: number;
}

export interface PageOptions {
  limit?: number;
  cursor?: string;
}

/** A client of `runfold serve`. It needs `fetch` and nothing else: it runs in Node and in browsers. */
export function createClient(options: ClientOptions): Client {
  return new Client(options);
}

export class Client {
  readonly #http: Http;

  constructor(options: ClientOptions) {
    this.#http = new Http(options);
  }

  org(orgId: string): OrgClient {
    return new OrgClient(this.#http, orgId);
  }

  /** One OpenLineage event, for the org of the token. */
  async lineage(event: object, options: CallOptions = {}): Promise<void> {
    await this.#http.send('POST', '/api/v1/lineage', { body: event, ...options });
  }

  lineageBatch(events: readonly object[], options: CallOptions = {}): Promise<BatchReport> {
    return this.#http.json('POST', '/api/v1/lineage/batch', { body: events, ...options });
  }
}

/** One org. Every call may be repeated, and is, where the service asks for it. */
export class OrgClient {
  readonly #http: Http;
  readonly #base: string;

  constructor(http: Http, orgId: string) {
    this.#http = http;
    this.#base = `/v1/orgs/${encodeURIComponent(orgId)}`;
  }

  /** Without `run_id` and `run_key` an idempotency key is made up, good for the repeats of this one call. */
  create(run: NewRunBody, options: CallOptions & { idempotencyKey?: string } = {}): Promise<Acknowledgement> {
    const { idempotencyKey = crypto.randomUUID(), ...rest } = options;
    const headers = { 'idempotency-key': idempotencyKey };
    return this.#http.json('POST', `${this.#base}/runs`, { body: run, headers, ...rest });
  }

  run(runId: string): RunClient {
    return new RunClient(this.#http, `${this.#base}/runs/${encodeURIComponent(runId)}`);
  }

  tables(query: PageOptions & { namespace?: string } = {}, options: ReadOptions = {}): Promise<TablesPage> {
    return this.#read('tables', query, options);
  }

  async *allTables(query: { namespace?: string } = {}, options: ReadOptions = {}): AsyncGenerator<TableView> {
    for (let cursor: string | undefined; ; ) {
      const page = await this.tables({ ...query, ...(cursor === undefined ? {} : { cursor }) }, options);
      yield* page.tables;
      if (page.next === null) return;
      cursor = page.next;
    }
  }

  table({ namespace, name }: Dataset, options: ReadOptions = {}): Promise<TableView> {
    return this.#read('table', { namespace, name }, options);
  }

  runs(filter: RunFilter & PageOptions = {}, options: ReadOptions = {}): Promise<RunsPage> {
    const { table, status, ...rest } = filter;
    const statuses = status === undefined ? undefined : [status].flat().join(',');
    return this.#read('runs', { ...rest, ...table, status: statuses }, options);
  }

  /** Page after page, until the caller stops. */
  async *allRuns(filter: RunFilter = {}, options: ReadOptions = {}): AsyncGenerator<RunSummary> {
    let left = filter.limit ?? Number.POSITIVE_INFINITY;
    for (let cursor: string | undefined; left > 0; ) {
      const limit = Math.min(left, 1_000);
      const page = await this.runs(
        { ...filter, limit, ...(cursor === undefined ? {} : { cursor }) },
        options,
      );
      yield* page.runs;
      if (page.next === null) return;
      left -= page.runs.length;
      cursor = page.next;
    }
  }

  active(query: PageOptions & { queue?: string } = {}, options: ReadOptions = {}): Promise<RunsPage> {
    return this.#read('active', query, options);
  }

  lineage({ table, direction, depth }: LineageQuery, options: ReadOptions = {}): Promise<Lineage> {
    return this.#read('lineage', { ...table, direction, depth }, options);
  }

  /** Without a cursor: the cursor of now. */
  changes(query: { cursor?: string; wait_ms?: number } = {}, options: CallOptions = {}): Promise<Changes> {
    return this.#read('changes', query, options);
  }

  #read<T>(path: string, query: object, options: ReadOptions): Promise<T> {
    const { maxAgeS, ...rest } = options;
    const headers: Record<string, string> =
      maxAgeS === undefined ? {} : { 'cache-control': `max-age=${maxAgeS}` };
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query))
      if (value !== undefined) search.set(name, String(value));
    const suffix = search.size === 0 ? '' : `?${search}`;
    return this.#http.json('GET', `${this.#base}/${path}${suffix}`, { headers, ...rest });
  }
}

/** One run. The answers say whether a cancel is wanted. */
export class RunClient {
  readonly #http: Http;
  readonly #path: string;

  constructor(http: Http, path: string) {
    this.#http = http;
    this.#path = path;
  }

  /** As it is stored now. */
  get(options: CallOptions = {}): Promise<RunView> {
    return this.#http.json('GET', this.#path, options);
  }

  readonly started = this.#event<'started'>('started');
  readonly heartbeat = this.#event<'heartbeat'>('heartbeat');
  readonly completed = this.#event<'succeeded'>('completed');
  readonly fail = this.#event<'failed'>('fail');
  readonly cancelled = this.#event<'cancelled'>('cancelled');
  readonly cancel = this.#event<'cancel'>('cancel');
  readonly retry = this.#event<'retry'>('retry');
  readonly forceCancel = this.#event<'force_cancel'>('force-cancel');
  readonly forceFail = this.#event<'force_fail'>('force-fail');
  readonly timeOut = this.#event<'time_out'>('time-out');

  delete(options: CallOptions = {}): Promise<Acknowledgement> {
    return this.#http.json('DELETE', this.#path, options);
  }

  task<N extends keyof typeof TASK_EVENTS>(
    key: string,
    event: N,
    body: TaskBody<(typeof TASK_EVENTS)[N]>,
    options: CallOptions = {},
  ): Promise<Acknowledgement> {
    const path = `${this.#path}/tasks/${encodeURIComponent(key)}/${event}`;
    return this.#http.json('POST', path, { body, ...options });
  }

  #event<K extends RunEvent['type']>(name: string) {
    return (body: EventBody<K>, options: CallOptions = {}): Promise<Acknowledgement> =>
      this.#http.json('POST', `${this.#path}/${name}`, { body, ...options });
  }
}

/** By the last part of the path. */
const TASK_EVENTS = {
  queued: 'queued',
  started: 'started',
  heartbeat: 'heartbeat',
  completed: 'succeeded',
  fail: 'failed',
  cancelled: 'cancelled',
  retry: 'retry',
} as const satisfies Record<string, TaskEvent['type']>;
