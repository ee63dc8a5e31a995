import { z } from 'zod';
import type { TraceSlice } from '../../traces/slice.ts';
import { checkAttempt, RULES } from '../access.ts';
import { rawBody } from '../check.ts';
import { integer } from '../integers.ts';
import { OrgPlaces } from '../places.ts';
import { Problem, refusalOf } from '../problem.ts';
import { streamed } from '../respond.ts';
import { type Call, json, type Route, route } from '../route.ts';
import { traceAppended } from '../schemas.ts';
import { byteRange, wholeCharacters } from '../text-stream.ts';

const TAG = 'Traces';
const TRACE = '/v1/orgs/{org}/runs/{run}/trace';
const EVENT_STREAM = 'text/event-stream';
const BEAT_MS = 15_000;
const TEXT = 'text/plain; charset=utf-8';

const attempt = integer(1);
const offset = integer(0);
const followers = new OrgPlaces('followersMax', 'Too many callers follow logs of this org.');
const reads = new OrgPlaces('traceReadsMax', 'Too many callers read whole logs of this org.');

const readQuery = z.strictObject({
  attempt: attempt.optional().meta({ description: 'default: the last attempt that left a log' }),
});

export const traceRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: TRACE,
    rule: RULES.work,
    tag: TAG,
    summary: "Add a chunk to the log of a run's attempt",
    description:
      'Chunks may come in any order, more than once, and overlap, as long as they agree about every byte. After ' +
      '200 the chunk is durable. Output is taken while the attempt runs and a few minutes longer.',
    query: z.strictObject({
      attempt,
      offset: offset.meta({ description: 'where in the log the chunk begins, bytes' }),
      end: z
        .enum(['true', 'false'])
        .optional()
        .meta({ description: 'true: nothing follows this chunk, which may then be empty' }),
    }),
    raw: { type: 'application/octet-stream', description: 'The bytes of the chunk.' },
    answers: { 200: { description: 'Durable.', content: [json(traceAppended)] } },
    errors: [
      'RUN_NOT_FOUND',
      'ATTEMPT_STALE',
      'TRACE_CLOSED',
      'TRACE_ARCHIVED',
      'LIMIT_EXCEEDED',
      'REVISION_CONFLICT',
      'OUTCOME_UNKNOWN',
    ],
    async handle(call) {
      const { service, org, path, query, principal, signal } = call;
      if (principal !== null) checkAttempt(principal, query.attempt);
      const { limits, traces } = service.session;
      const body = await rawBody(call, limits.traceChunkBytesMax);
      const chunk = { attempt: query.attempt, offset: query.offset, body, end: query.end === 'true' };
      return { json: await traces.append(org, path.run!, chunk, signal) };
    },
  }),
  route({
    method: 'GET',
    path: TRACE,
    rule: RULES.readRun,
    tag: TAG,
    summary: 'The log of a run, or a range of it',
    description:
      'Live or archived alike: an offset means the same byte before and after. A live log ends at what is not there ' +
      'yet. With `Range: bytes=…` the answer may be shorter than what was asked for; `Content-Range` tells.',
    query: readQuery,
    answers: {
      200: { description: 'The log as far as it is there.', content: [{ type: TEXT }] },
      206: { description: 'The range, or the first part of it.', content: [{ type: TEXT }] },
    },
    errors: ['RUN_NOT_FOUND', 'TRACE_NOT_FOUND', 'TRACE_EXPIRED', 'RANGE_NOT_SATISFIABLE', 'CORRUPT'],
    handle: read,
  }),
  route({
    method: 'GET',
    path: `${TRACE}/follow`,
    rule: RULES.readRun,
    tag: TAG,
    summary: 'The log of a run as it is written: server-sent events',
    description:
      'Events `text` with `offset` and `text`; their ids are `attempt-offset`, the offset of what comes next. A ' +
      'reconnect goes on from `Last-Event-ID`, whatever `from` says. Event `gap` with `offset` and `bytes` where later ' +
      'bytes are there already: the stream waits for those between. Event `end` when nothing more comes. Bytes that are ' +
      'no UTF-8 are shown as U+FFFD; a range gives them as they are.',
    query: readQuery.extend({ from: offset.optional().meta({ description: 'an offset; default 0' }) }),
    answers: { 200: { description: 'The stream.', content: [{ type: EVENT_STREAM }] } },
    errors: ['RUN_NOT_FOUND', 'TRACE_NOT_FOUND', 'TRACE_EXPIRED', 'CORRUPT'],
    waits: true,
    handle: follow,
  }),
];

async function read(call: Call<z.infer<typeof readQuery>>): Promise<Response> {
  const { service, org, path, query, request, signal } = call;
  const { traces } = service.session;
  const range = byteRange(request.headers.get('range'));
  if (range === null) {
    const leave = reads.take(service, org);
    try {
      const slices = traces.stream(org, path.run!, query, request.signal);
      // The first is awaited here, so that a log that is not there is an ordinary 404.
      const first = await slices.next();
      return streamed(streamOf(first, slices, leave), headersOf((first.value as TraceSlice).state));
    } catch (error) {
      leave();
      throw error;
    }
  }
  let { from, to } = range;
  if (from < 0) {
    const bytes = await bytesNow(call);
    [from, to] = [Math.max(0, bytes + from), bytes];
  }
  const { body, state } = await traces.read(org, path.run!, { ...query, from, to }, signal);
  const total = state.status === 'live' ? '*' : String(state.bytes);
  if (body.length === 0) {
    throw new Problem('RANGE_NOT_SATISFIABLE', `There is nothing at offset ${from}.`, {
      hint: state.ended ? 'Ask for what lies before it.' : 'It may come: ask again, or follow.',
      details: { attempt: state.attempt, trace_status: state.status, ended: state.ended, gap: state.gap },
      headers: { 'content-range': `bytes */${await bytesNow(call)}` },
    });
  }
  return new Response(body as Uint8Array<ArrayBuffer>, {
    status: 206,
    headers: {
      ...headersOf(state),
      'content-range': `bytes ${from}-${from + body.length - 1}/${total}`,
      'content-length': String(body.length),
    },
  });
}

/** How long the log is now, as whoever reads it from its first byte finds it. */
async function bytesNow({
  service,
  org,
  path,
  query,
  signal,
}: Call<z.infer<typeof readQuery>>): Promise<number> {
  const look = { ...query, from: 0, to: 0, ahead: true };
  return (await service.session.traces.read(org, path.run!, look, signal)).state.bytes;
}

function headersOf(state: TraceSlice['state']): Record<string, string> {
  return {
    'content-type': TEXT,
    'accept-ranges': 'bytes',
    'cache-control': 'private, no-store',
    'x-runfold-trace-status': state.status,
    'x-runfold-trace-attempt': String(state.attempt),
    'x-runfold-trace-ended': String(state.ended),
    ...(state.gap && { 'x-runfold-trace-gap': `${state.gap.offset}-${state.gap.bytes}` }),
  };
}

function streamOf(
  first: IteratorResult<TraceSlice>,
  slices: AsyncGenerator<TraceSlice>,
  leave: () => void,
): ReadableStream<Uint8Array> {
  let next = first;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        if (next.done !== true && next.value.body.length > 0)
          controller.enqueue(new Uint8Array(next.value.body));
        if (next.done !== true) next = await slices.next();
      } catch (error) {
        // The length was never told, so the caller sees that the answer is not whole.
        leave();
        throw error;
      }
      if (next.done !== true) return;
      leave();
      controller.close();
    },
    async cancel() {
      leave();
      await slices.return(undefined);
    },
  });
}

/** Where a broken stream goes on; null: nothing tells, or it was one of another attempt than is asked for. */
function lastEvent(id: string | null, asked: number | undefined): { attempt: number; from: number } | null {
  const match = /^(\d{1,9})-(\d{1,12})$/.exec(id ?? '');
  if (match === null) return null;
  const attempt = Number(match[1]);
  return attempt < 1 || (asked !== undefined && asked !== attempt)
    ? null
    : { attempt, from: Number(match[2]) };
}

/** Ends with the log, after `streamMs`, and with its token: the client reconnects and shows a new one. */
async function follow(
  call: Call<z.infer<typeof readQuery> & { from?: number | undefined }>,
): Promise<Response> {
  const { service, org, path, query, request, principal, signal } = call;
  const { clock, limits, session } = service;
  const last = lastEvent(request.headers.get('last-event-id'), query.attempt);
  let from = last?.from ?? query.from ?? 0;
  const lifeMs = Math.min(limits.streamMs, Math.max(0, (principal?.expiresAt ?? 0) - clock.now()));
  const until = clock.monotonic() + lifeMs;
  const leave = followers.take(service, org);
  const stop = new AbortController();
  const stopped = AbortSignal.any([signal, stop.signal]);
  const options = {
    attempt: last?.attempt ?? query.attempt,
    from,
    sliceBytes: limits.followEventBytes,
    pollMs: limits.watchPauseMs,
  };
  const slices = session.traces.follow(org, path.run!, options, stopped);
  let next: IteratorResult<TraceSlice>;
  try {
    next = await slices.next();
  } catch (error) {
    leave();
    throw error;
  }
  let kept: Uint8Array = new Uint8Array();
  let gapAt: number | null = null;
  let beatAt = clock.monotonic();
  const encoder = new TextEncoder();
  // U+FEFF is a character of the log like any other.
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  const send = (controller: ReadableStreamDefaultController<Uint8Array>, lines: string) => {
    controller.enqueue(encoder.encode(lines));
    beatAt = clock.monotonic();
  };
  const end = (controller: ReadableStreamDefaultController<Uint8Array>) => {
    leave();
    stop.abort();
    void slices.return(undefined).catch(() => undefined);
    controller.close();
  };
  const stream = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        // A pull that sends nothing would not be followed by another.
        for (let sent = false; !sent; ) {
          if (next.done === true || service.draining || clock.monotonic() >= until) return end(controller);
          const { body, state } = next.value;
          const bytes = Buffer.concat([kept, body]);
          const isLast = state.ended && next.value.offset + body.length >= state.bytes;
          const whole = isLast ? bytes.length : wholeCharacters(bytes);
          kept = bytes.subarray(whole);
          if (whole > 0) {
            const text = decoder.decode(bytes.subarray(0, whole));
            const data = JSON.stringify({ offset: from, text });
            from += whole;
            send(controller, `event: text\nid: ${state.attempt}-${from}\ndata: ${data}\n\n`);
            sent = true;
          }
          if (state.gap !== null && state.gap.offset !== gapAt) {
            gapAt = state.gap.offset;
            send(controller, `event: gap\ndata: ${JSON.stringify(state.gap)}\n\n`);
            sent = true;
          }
          if (isLast) {
            // Who asked for what lies behind the end is told where that is.
            const { bytes: total, status, attempt } = state;
            const data = JSON.stringify({ bytes: total, status, attempt });
            send(controller, `event: end\nid: ${attempt}-${total}\ndata: ${data}\n\n`);
            return end(controller);
          }
          if (!sent && clock.monotonic() - beatAt >= BEAT_MS) {
            send(controller, ': still here\n\n');
            sent = true;
          }
          next = await slices.next();
        }
      } catch (error) {
        if (!stopped.aborted) {
          const { code } = refusalOf(error);
          send(controller, `event: problem\ndata: ${JSON.stringify({ code })}\n\n`);
        }
        end(controller);
      }
    },
    cancel() {
      leave();
      stop.abort();
      void slices.return(undefined).catch(() => undefined);
    },
  });
  return new Response(stream, {
    headers: { 'content-type': EVENT_STREAM, 'cache-control': 'no-store', 'x-accel-buffering': 'no' },
  });
}
