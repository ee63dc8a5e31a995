import { SingleBar } from 'cli-progress';

export interface BenchProgress {
  /** `done` of `total`, in whatever the bench counts; parts of a step are fractions. */
  update(done: number, total: number, label: string): void;
  stop(): void;
}

/** A log gets a line for each of these parts of the whole. */
const LINES = 20;
/** Of the whole: before that, what it took says nothing of what is left. */
const TOLD_FROM = 0.02;

/** A bar with the time that is left on a terminal; lines elsewhere, so that a log tells how far it is. */
export function startBenchProgress(
  name: string,
  stream: NodeJS.WriteStream = process.stderr,
  now: () => number = () => performance.now(),
): BenchProgress {
  const began = now();
  const bar = stream.isTTY
    ? new SingleBar({
        stream,
        format: `${name} {bar} {percentage}%{left} {label}`,
        barCompleteChar: '█',
        barIncompleteChar: '░',
        barsize: 24,
        hideCursor: true,
        clearOnComplete: true,
        linewrap: false,
      })
    : null;
  bar?.start(1, 0, { left: '', label: 'starting' });
  let shown = -1;
  return {
    update(done, total, label) {
      const part = Math.min(1, done / total);
      const left = part < TOLD_FROM ? '' : `, ${minutes(((now() - began) * (1 - part)) / part)} left`;
      bar?.update(part, { left, label });
      const line = Math.floor(LINES * part);
      if (bar !== null || line === shown) return;
      shown = line;
      stream.write(`${Math.floor(100 * part)} %${left}: ${label}\n`);
    },
    stop: () => bar?.stop(),
  };
}

/** `4:05` */
function minutes(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}
