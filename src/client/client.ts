import type { Lineage, LineageQuery } from '../catalog/lineage.ts';
import type { RunFilter, TableView } from '../catalog/views.ts';
import { InputError } from '../core/errors.ts';
import type { RunEvent, TaskEvent } from '../runs/events.ts';
import type { Dataset } from '../runs/run.ts';
import type {
  Acknowledgement,
  Artifacts,
  ArtifactView,
  BatchReport,
  Changes,
  EventBody,
  Execution,
  NewRunBody,
  RunSummary,
  RunsPage,
  RunView,
  TablesPage,
  TaskBody,
} from '../service/schemas.ts';
import type { ExportFormat } from '../snapshot/export.ts';
import { ArtifactClient } from './artifacts.ts';
import { type CallOptions, type ClientOptions, Http } from './http.ts';
import { TraceClient } from './trace.ts';

export type { ArtifactClient } from './artifacts.ts';
export { type CallOptions, type ClientOptions, ServiceError, UnreachableError } from './http.ts';
export type { TraceBytes, TraceClient, TraceText } from './trace.ts';

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
    this.#base = `/v1/orgs/${segment('org id', orgId)}`;
  }

  /** Without `run_id` and `run_key` an idempotency key is made up, good for the repeats of this one call. */
  create(run: NewRunBody, options: CallOptions & { idempotencyKey?: string } = {}): Promise<Acknowledgement> {
    const { idempotencyKey = crypto.randomUUID(), ...rest } = options;
    const headers = { 'idempotency-key': idempotencyKey };
    return this.#http.json('POST', `${this.#base}/runs`, { body: run, headers, ...rest });
  }

  run(runId: string): RunClient {
    return new RunClient(this.#http, `${this.#base}/runs/${segment('run id', runId)}`);
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
    const { table, ...rest } = filter;
    return this.#read('runs', { ...rest, ...table, status: statusesOf(filter) }, options);
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

  /** The run of the reference that changed last. Throws REFERENCE_NOT_FOUND where there is none (of that status). */
  latestOf(
    referenceId: string,
    query: Pick<RunFilter, 'status'> = {},
    options: ReadOptions = {},
  ): Promise<RunSummary> {
    const status = statusesOf(query);
    return this.#read('references/latest', { reference_id: referenceId, status }, options);
  }

  /** How long its latest successful execution took, in all and by operator, and what was reported of it. */
  statisticsOf(
    referenceId: string,
    query: Pick<RunFilter, 'status'> = {},
    options: ReadOptions = {},
  ): Promise<Execution> {
    const status = statusesOf(query);
    return this.#read('references/statistics', { reference_id: referenceId, status }, options);
  }

  /** Runs as one file; with `table` its history. It comes as fast as it is read, and errors where it breaks off. */
  async export(
    query: { format: ExportFormat } & RunFilter,
    options: ReadOptions = {},
  ): Promise<ReadableStream<Uint8Array>> {
    const { table, ...rest } = query;
    const path = this.#path('export', { ...rest, ...table, status: statusesOf(query) });
    const { maxAgeS, ...call } = options;
    const headers = { ...maxAgeOf(maxAgeS), accept: '*/*' };
    return (await this.#http.send('GET', path, { headers, ...call })).body!;
  }

  /** Without a cursor: the cursor of now. */
  changes(query: { cursor?: string; wait_ms?: number } = {}, options: CallOptions = {}): Promise<Changes> {
    return this.#read('changes', query, options);
  }

  #read<T>(path: string, query: object, { maxAgeS, ...options }: ReadOptions): Promise<T> {
    return this.#http.json('GET', this.#path(path, query), { headers: maxAgeOf(maxAgeS), ...options });
  }

  #path(path: string, query: object): string {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query))
      if (value !== undefined) search.set(name, String(value));
    return `${this.#base}/${path}${search.size === 0 ? '' : `?${search}`}`;
  }
}

/** The service checks ids; these would lead to another path of it, and to an answer about that. Throws InputError. */
function segment(what: string, id: string): string {
  if (!/^\.{0,2}$/.test(id)) return encodeURIComponent(id);
  throw new InputError(`The ${what} ${JSON.stringify(id)} is none.`, {
    hint: 'Use letters, digits and ._:@~+=-, the first a letter or digit.',
  });
}

function maxAgeOf(seconds: number | undefined): Record<string, string> {
  return seconds === undefined ? {} : { 'cache-control': `max-age=${seconds}` };
}

function statusesOf({ status }: Pick<RunFilter, 'status'>): string | undefined {
  return status === undefined ? undefined : [status].flat().join(',');
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

  /** What its operators left, as it is stored now: also what was acknowledged a moment ago. */
  async artifacts(options: CallOptions = {}): Promise<ArtifactView[]> {
    return (await this.#http.json<Artifacts>('GET', `${this.#path}/artifacts`, options)).artifacts;
  }

  /** Of one operator and port; `console` and `statistics` are ports of their own kind. */
  artifact(operator: string, port: string): ArtifactClient {
    const place = `${segment('operator', operator)}/${segment('port', port)}`;
    return new ArtifactClient(this.#http, `${this.#path}/artifacts/${place}`);
  }

  /** The log of an attempt. */
  get trace(): TraceClient {
    return new TraceClient(this.#http, `${this.#path}/trace`);
  }

  task<N extends keyof typeof TASK_EVENTS>(
    key: string,
    event: N,
    body: TaskBody<(typeof TASK_EVENTS)[N]>,
    options: CallOptions = {},
  ): Promise<Acknowledgement> {
    const path = `${this.#path}/tasks/${segment('task key', key)}/${event}`;
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
