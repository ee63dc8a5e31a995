import type { TraceAppended } from '../service/schemas.ts';
import { type CallOptions, type Http, ServiceError } from './http.ts';

/** A range of a log. */
export interface TraceBytes {
  offset: number;
  bytes: Uint8Array;
  attempt: number;
  status: 'live' | 'archived' | 'partial' | 'lost';
  /** Nothing more comes. */
  ended: boolean;
}

export interface TraceText {
  offset: number;
  text: string;
}

/** The log of a run's attempts. Every call may be repeated. */
export class TraceClient {
  readonly #http: Http;
  readonly #path: string;

  constructor(http: Http, path: string) {
    this.#http = http;
    this.#path = path;
  }

  /** Durable once it resolves. */
  append(
    chunk: { attempt: number; offset: number; body: Uint8Array | string; end?: boolean },
    options: CallOptions = {},
  ): Promise<TraceAppended> {
    const { attempt, offset, end = false } = chunk;
    const body = typeof chunk.body === 'string' ? new TextEncoder().encode(chunk.body) : chunk.body;
    const query = `attempt=${attempt}&offset=${offset}${end ? '&end=true' : ''}`;
    return this.#http.json('POST', `${this.#path}?${query}`, { body, ...options });
  }

  /** Bytes [from, to), as many of them as there are and as one answer gives: go on behind them. */
  async read(
    range: { attempt?: number; from?: number; to?: number } = {},
    options: CallOptions = {},
  ): Promise<TraceBytes> {
    const { attempt, from = 0, to } = range;
    const headers = { range: `bytes=${from}-${to === undefined ? '' : to - 1}`, accept: 'text/plain' };
    try {
      const answer = await this.#http.send('GET', `${this.#path}${queryOf({ attempt })}`, {
        headers,
        ...options,
      });
      return { offset: from, bytes: new Uint8Array(await answer.arrayBuffer()), ...stateOf(answer.headers) };
    } catch (error) {
      if (!(error instanceof ServiceError) || error.code !== 'RANGE_NOT_SATISFIABLE') throw error;
      const {
        attempt: told,
        trace_status,
        ended,
      } = error.problem as {
        attempt: number;
        trace_status: TraceBytes['status'];
        ended: boolean;
      };
      return { offset: from, bytes: new Uint8Array(), attempt: told, status: trace_status, ended };
    }
  }

  /** What there is and then what comes, until the log has ended. Streams that break off are taken up again. */
  async *follow(
    range: { attempt?: number; from?: number } = {},
    options: CallOptions = {},
  ): AsyncGenerator<TraceText, void, void> {
    let from = range.from ?? 0;
    for (;;) {
      const path = `${this.#path}/follow${queryOf({ attempt: range.attempt, from })}`;
      const answer = await this.#http.send('GET', path, {
        headers: { accept: 'text/event-stream' },
        ...options,
      });
      for await (const { event, id, data } of eventsOf(answer)) {
        if (event === 'end') return;
        if (event === 'problem') throw new ServiceError(500, JSON.parse(data) as Record<string, unknown>);
        if (event !== 'text') continue;
        yield JSON.parse(data) as TraceText;
        from = Number(id);
      }
    }
  }
}

function stateOf(headers: Headers): Omit<TraceBytes, 'offset' | 'bytes'> {
  return {
    attempt: Number(headers.get('x-runfold-trace-attempt')),
    status: headers.get('x-runfold-trace-status') as TraceBytes['status'],
    ended: headers.get('x-runfold-trace-ended') === 'true',
  };
}

function queryOf(query: Record<string, number | undefined>): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  return given.length === 0 ? '' : `?${given.map(([name, value]) => `${name}=${value}`).join('&')}`;
}

interface ServerEvent {
  event: string;
  id: string;
  data: string;
}

/** Server-sent events as runfold sends them: one line per field. */
async function* eventsOf(answer: Response): AsyncGenerator<ServerEvent, void, void> {
  let text = '';
  const decoder = new TextDecoder();
  for await (const bytes of answer.body as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(bytes, { stream: true });
    const blocks = text.split('\n\n');
    text = blocks.pop()!;
    for (const block of blocks) {
      const fields = Object.fromEntries(
        block
          .split('\n')
          .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(': ') + 2)]),
      );
      if (fields.event !== undefined)
        yield { event: fields.event, id: fields.id ?? '', data: fields.data ?? '' };
    }
  }
}
