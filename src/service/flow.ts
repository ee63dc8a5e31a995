import type { Clock } from '../core/clock.ts';

export interface FlowOptions {
  clock: Clock;
  /** A reader that is not done by then is cut off. */
  limitMs: number;
  /** Nobody waits any more. */
  signal: AbortSignal;
  /** Called once, when all is sent, when the reader left, or with what went wrong. Not where `flow` itself throws. */
  onEnd: (error: unknown) => void;
}

/**
 * Pieces as a stream. A piece is asked for when the one before has gone, so whoever reads slowly holds up the reading,
 * and nothing but his own. The first piece is awaited here: what cannot be read at all is thrown, as an ordinary error.
 */
export async function flow(
  pieces: AsyncGenerator<Uint8Array, void, void>,
  { clock, limitMs, signal, onEnd }: FlowOptions,
): Promise<ReadableStream<Uint8Array>> {
  let next: IteratorResult<Uint8Array, void> | null = await pieces.next();
  const timer = new AbortController();
  let ended = false;
  const end = (error: unknown = null) => {
    if (ended) return;
    ended = true;
    timer.abort();
    onEnd(error);
    // It returns when what it waits for comes, or is given up.
    pieces.return().catch(() => undefined);
  };
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const breakOff = (error: unknown) => {
          controller.error(brokenOff());
          end(error);
        };
        const late = () => breakOff(new Error(`it took longer than ${limitMs} ms`));
        clock.sleep(limitMs, timer.signal).then(late, () => undefined);
        signal.addEventListener('abort', () => breakOff(null), { once: true, signal: timer.signal });
        if (signal.aborted) breakOff(null);
      },
      async pull(controller) {
        try {
          for (;;) {
            const { done, value } = next ?? (await pieces.next());
            next = null;
            if (ended) return;
            if (done === true) {
              controller.close();
              return end();
            }
            if (value.length > 0) return controller.enqueue(value);
          }
        } catch (error) {
          if (ended) return;
          controller.error(brokenOff());
          end(error);
        }
      },
      cancel: () => end(),
    },
    { highWaterMark: 0 },
  );
}

/** What the server below may show to anybody: nothing of the store. */
function brokenOff(): Error {
  return Object.assign(new Error('An answer broke off.'), { stack: undefined });
}
