import type { Limits } from '../../src/core/limits.ts';

export const ORGS = ['acme', 'globex', 'initech'];

/** Small, so that a minute of killing meets sealing, merging and collecting too. */
export const KILL_LIMITS: Partial<Limits> = {
  headRowsMax: 60,
  historyGroupRows: 32,
  mergeFanIn: 3,
  inlineHeadBytesMax: 2_048,
  entryGraceMs: 4_000,
  partGraceMs: 6_000,
  // As ADR 0006 wants them to each other: a record is given up before its row can be sealed.
  recordAgeMaxMs: 1_500,
  sealAgeMs: 4_000,
};
