import { systemClock } from '../../core/clock.ts';
import { dim, duration } from '../format.ts';
import type { Output } from '../output.ts';

/** The demo's way: a bar while a step runs, one line with its time when it is done. */
export class Steps {
  readonly #output: Output;

  constructor(output: Output) {
    this.#output = output;
  }

  /** `tell` says in words what the step gave. */
  async run<T>(
    label: string,
    show: (value: number) => string,
    action: (update: (value: number, total?: number | null) => void) => Promise<T>,
    tell: (result: T) => string,
  ): Promise<T> {
    const progress = this.#output.progress(label, show);
    const began = systemClock.monotonic();
    try {
      progress.update(0);
      const result = await action(progress.update);
      progress.stop();
      const time = duration(systemClock.monotonic() - began);
      this.#output.line(`${label.padEnd(12)} ${time.padStart(7)}  ${dim(tell(result))}`);
      return result;
    } finally {
      progress.stop();
    }
  }
}
