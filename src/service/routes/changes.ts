import { z } from 'zod';
import { RULES } from '../access.ts';
import { CHANGES_CURSOR_MAX } from '../changes-cursor.ts';
import { integer } from '../integers.ts';
import { refusalOf } from '../problem.ts';
import { type Call, json, type Route, route } from '../route.ts';
import { changesView } from '../schemas.ts';

const EVENT_STREAM = 'text/event-stream';
const BEAT_MS = 15_000;

export const changesRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/orgs/{org}/changes',
    rule: RULES.read,
    tag: 'Changes',
    summary: 'Runs that changed since a cursor: long poll, or server-sent events',
    description:
      'Without a cursor: the cursor of now, at once. Ask for it first, then read the lists with ' +
      '`Cache-Control: max-age=0`, then follow the changes, through any replica: none is missed, some may come ' +
      'twice. With `Accept: text/event-stream` the ' +
      'answer is a stream of `change` events, whose ids are cursors; a reconnect goes on from `Last-Event-ID`.',
    query: z.strictObject({
      cursor: z.string().max(CHANGES_CURSOR_MAX).optional(),
      wait_ms: integer(0).optional().meta({ description: 'at most 25000; 0 is the default' }),
    }),
    answers: {
      200: {
        description: 'What changed; nothing where the wait ended before.',
        content: [json(changesView), { type: EVENT_STREAM }],
      },
    },
    errors: ['CURSOR_EXPIRED'],
    waits: true,
    async handle(call) {
      const { service, org, query, request, signal } = call;
      const cursor = query.cursor ?? request.headers.get('last-event-id') ?? undefined;
      if ((request.headers.get('accept') ?? '').includes(EVENT_STREAM)) return streamOf(call, cursor);
      if (cursor === undefined) {
        return { json: { changes: [], cursor: await service.changes.start(org, signal), more: false } };
      }
      const waitMs = Math.min(query.wait_ms ?? 0, service.limits.waitMsMax);
      return { json: await service.changes.next(org, cursor, waitMs, signal) };
    },
  }),
];

/** Ends after `streamMs`, and with its token: the client reconnects and shows a new one. */
async function streamOf(call: Call, from: string | undefined): Promise<Response> {
  const { service, org, principal, signal } = call;
  const { clock, limits } = service;
  const lifeMs = Math.min(limits.streamMs, Math.max(0, (principal?.expiresAt ?? 0) - clock.now()));
  const until = clock.monotonic() + lifeMs;
  // The first answer is awaited here, so that a cursor that is no good is an ordinary 410.
  let cursor = from ?? (await service.changes.start(org, signal));
  let batch = await service.changes.next(org, cursor, 0, signal);
  const stop = new AbortController();
  const stopped = AbortSignal.any([signal, stop.signal]);
  const encoder = new TextEncoder();
  const stream = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const lines: string[] = [];
        for (const change of batch.changes) lines.push(`event: change\ndata: ${JSON.stringify(change)}\n\n`);
        // The id goes with the last event of a batch: what was not received whole is sent again.
        lines.push(
          `event: cursor\nid: ${batch.cursor}\ndata: ${JSON.stringify({ cursor: batch.cursor })}\n\n`,
        );
        controller.enqueue(encoder.encode(lines.join('')));
        cursor = batch.cursor;
        const left = until - clock.monotonic();
        if (left <= 0) return controller.close();
        batch = await service.changes.next(org, cursor, Math.min(left, BEAT_MS), stopped);
      } catch (error) {
        if (!stopped.aborted) {
          const { code } = refusalOf(error);
          controller.enqueue(encoder.encode(`event: problem\ndata: ${JSON.stringify({ code })}\n\n`));
        }
        controller.close();
      }
    },
    cancel: () => stop.abort(),
  });
  return new Response(stream, {
    headers: { 'content-type': EVENT_STREAM, 'cache-control': 'no-store', 'x-accel-buffering': 'no' },
  });
}
