import type { DatasetSize } from '../support/dataset.ts';
import type { Spread } from '../support/report.ts';

/** What one rival needs in one scenario. */
export interface Result extends DatasetSize {
  group: string;
  scenario: string;
  rival: string;
  rows: number;
  /** Waiting as simulated, and CPU as it was. */
  ms: Spread;
  /**
   * Against runfold: the sum of its rounds over the sum of runfold's of the same numbers, which drew the same times.
   * Null where runfold itself was not run.
   */
  ratio: number | null;
  samples: number;
  requests: number;
  rounds: number;
  bytes: number;
  dollarsPerMillion: number;
}
