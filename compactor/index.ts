/** The compactor as a library: `runfold/compactor`. */

export { type OpenResultsOptions, openResults, type ResultStore } from '../src/runs/results.ts';
export { type ArchiveOptions, archiveOrg } from './archive.ts';
export type { Archived, ArchiveFailure } from './archive-report.ts';
export { type Backfilled, type BackfillOptions, backfill } from './backfill.ts';
export type { Collected } from './collect.ts';
export { type Compacted, compactOrg } from './compact.ts';
export type { CompactorContext } from './context.ts';
export { deferral } from './defer.ts';
export { type DueReason, type FoldPolicy, foldPolicy } from './due.ts';
export { type Expired, type ExpiredArtifact, type ExpireOptions, expireOrg } from './expire.ts';
export { type Exported, type ExportOptions, exportLegacy } from './export-legacy.ts';
export { type Migrated, type MigrateOptions, migrate } from './migrate.ts';
export { openCompactor } from './open.ts';
export { listOrgs } from './orgs.ts';
export { type OrphanSweep, sweepOrphans } from './orphans.ts';
export { compactPass, type PassOptions, type PassResult } from './pass.ts';
export { type Reconciled, type ReconcileOptions, reconcile } from './reconcile.ts';
export { type Repaired, type RepairOptions, repairOrg } from './repair.ts';
export { type SweepOptions, type Swept, sweepOrg } from './sweep.ts';
export { type FormatCount, type Upgraded, type UpgradeOptions, upgradeOrg } from './upgrade.ts';
export { verifyOrg } from './verify.ts';
export type { Problem, Verified, VerifyOptions } from './verify-report.ts';
