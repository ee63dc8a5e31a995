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
  /** Bytes of a live log that are missing where this ends, though later ones are there. */
  gap: { offset: number; bytes: number } | null;
}

export interface TraceText {
  offset: number;
  text: string;
}

/** Streams in a row that may break off without a byte of the log. */
const BREAKS_MAX = 5;

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
      const path = `${this.#path}${queryOf({ attempt })}`;
      return await this.#http.whole('GET', path, { headers, ...options }, async (answer) => {
        const bytes = new Uint8Array(await answer.arrayBuffer());
        return { offset: from, bytes, ...stateOf(answer.headers) };
      });
    } catch (error) {
      if (!(error instanceof ServiceError) || error.code !== 'RANGE_NOT_SATISFIABLE') throw error;
      const {
        attempt: told,
        trace_status,
        ended,
        gap,
      } = error.problem as {
        attempt: number;
        trace_status: TraceBytes['status'];
        ended: boolean;
        gap: TraceBytes['gap'];
      };
      return { offset: from, bytes: new Uint8Array(), attempt: told, status: trace_status, ended, gap };
    }
  }

  /** What there is and then what comes, until the log has ended. Streams that break off are taken up again. */
  async *follow(
    range: { attempt?: number; from?: number } = {},
    options: CallOptions = {},
  ): AsyncGenerator<TraceText, void, void> {
    let { from = 0, attempt } = range;
    for (let idle = 0; ; ) {
      const path = `${this.#path}/follow${queryOf({ attempt, from })}`;
      const answer = await this.#http.send('GET', path, {
        headers: { accept: 'text/event-stream' },
        ...options,
      });
      const events = eventsOf(answer);
      try {
        for (;;) {
          const next = await events.next().catch((cause: unknown) => {
            // Once more; but not for ever where nothing comes in between.
            if (!(cause instanceof TypeError)) throw cause;
            if (++idle >= BREAKS_MAX) throw this.#http.brokenOff('GET', cause);
            return null;
          });
          if (next === null || next.done) break;
          const { event, id, data } = next.value;
          if (event === 'end') return;
          if (event === 'problem') throw new ServiceError(500, JSON.parse(data) as Record<string, unknown>);
          if (event !== 'text') continue;
          idle = 0;
          yield JSON.parse(data) as TraceText;
          // A reconnect must not go on in the log of a later attempt.
          [attempt, from] = id.split('-').map(Number) as [number, number];
        }
      } finally {
        // Nobody reads on: the connection is free.
        await events.return();
      }
    }
  }
}

function stateOf(headers: Headers): Omit<TraceBytes, 'offset' | 'bytes'> {
  return {
    attempt: Number(headers.get('x-runfold-trace-attempt')),
    status: headers.get('x-runfold-trace-status') as TraceBytes['status'],
    ended: headers.get('x-runfold-trace-ended') === 'true',
    gap: gapOf(headers.get('x-runfold-trace-gap')),
  };
}

function gapOf(header: string | null): TraceBytes['gap'] {
  if (header === null) return null;
  const [offset, bytes] = header.split('-').map(Number) as [number, number];
  return { offset, bytes };
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
