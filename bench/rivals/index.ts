import { cachedScan } from './cached-scan.ts';
import { flatScan } from './flat-scan.ts';
import { jsonIndex } from './json-index.ts';
import { objectPerRun } from './object-per-run.ts';
import { plainSnapshot } from './plain-snapshot.ts';
import type { Rival } from './rival.ts';
import { runfold, runfoldHistory } from './runfold.ts';

/** In the order of the report; what follows another's objects comes after it. */
export const RIVALS: readonly Rival[] = [
  runfold,
  runfoldHistory,
  plainSnapshot,
  jsonIndex,
  objectPerRun,
  flatScan,
  cachedScan,
];
