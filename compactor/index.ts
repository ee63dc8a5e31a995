/** The compactor as a library: `runfold/compactor`. */
export type { Collected } from './collect.ts';
export { type Compacted, compactOrg } from './compact.ts';
export type { CompactorContext } from './context.ts';
export { openCompactor } from './open.ts';
export { type OrphanSweep, sweepOrphans } from './orphans.ts';
export { compactPass, listOrgs, type PassOptions, type PassResult } from './pass.ts';
export { type Repaired, type RepairOptions, repairOrg } from './repair.ts';
export { type SweepOptions, type Swept, sweepOrg } from './sweep.ts';
export { type Problem, type Verified, type VerifyOptions, verifyOrg } from './verify.ts';
export { type BackfillOptions, type Backfilled, backfill } from './backfill.ts';
export { type MigrateOptions, type Migrated, migrate } from './migrate.ts';
export { type ReconcileOptions, type Reconciled, reconcile } from './reconcile.ts';
