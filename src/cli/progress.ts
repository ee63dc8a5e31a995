import { type Options, SingleBar } from 'cli-progress';

/** How far a long command is. Does nothing where standard error is not a terminal. */
export interface Progress {
  /** `total` null: not known, then only the count is shown. */
  update(value: number, total?: number | null, note?: string): void;
  /** Takes the bar off the screen. Safe to repeat. */
  stop(): void;
}

const SILENT: Progress = { update: () => undefined, stop: () => undefined };

export function startProgress(
  label: string,
  show: (value: number) => string,
  stream: NodeJS.WriteStream = process.stderr,
): Progress {
  if (!stream.isTTY) return SILENT;
  const format: NonNullable<Options['format']> = (
    options,
    params,
    payload: { known?: boolean; note?: string },
  ) => {
    if (!payload.known) return `${label} ${show(params.value)}`;
    const note = payload.note ? `, ${payload.note}` : '';
    const done = Math.round(params.progress * (options.barsize ?? 30));
    const bar = '█'.repeat(done) + '░'.repeat((options.barsize ?? 30) - done);
    return `${label} ${bar} ${Math.floor(params.progress * 100)}% ${show(params.value)} of ${show(params.total)}${note}`;
  };
  const bar = new SingleBar({
    format,
    stream,
    barsize: 30,
    hideCursor: true,
    clearOnComplete: true,
    // Signals are run.ts's: the bar must not end the process in the middle of a write.
    gracefulExit: false,
  });
  bar.start(1, 0, { known: false });
  let running = true;
  return {
    update(value, total = null, note = '') {
      if (!running) return;
      if (total !== null) bar.setTotal(Math.max(total, 1));
      bar.update(value, { known: total !== null, note });
    },
    stop() {
      if (!running) return;
      running = false;
      bar.stop();
    },
  };
}
