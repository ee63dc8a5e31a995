/** The public surface of runfold; test/public-surface.test.ts freezes it. No cloud SDK is loaded from here. */
export {
  Catalog,
  type CatalogOptions,
  OrgCatalog,
  openCatalog,
  type RefreshOptions,
} from './catalog/catalog.ts';
export type { Lineage, LineageDirection, LineageEdge, LineageQuery } from './catalog/lineage.ts';
export type { RefreshStats } from './catalog/stats.ts';
export type { RunBrief, RunFilter, TableView } from './catalog/views.ts';
export {
  CorruptError,
  type ErrorCode,
  FormatError,
  InputError,
  LifecycleError,
  OutcomeUnknownError,
  RunfoldError,
  StoreError,
} from './core/errors.ts';
export { defaultLimits, type Limits } from './core/limits.ts';
export type { ArtifactEvent, Ending, NewArtifact, NewRun, RunEvent, TaskEvent } from './runs/events.ts';
export type { Observation } from './runs/observe.ts';
export type { Projection } from './runs/projection.ts';
export type { Recorded, Recorder } from './runs/recorder.ts';
export {
  type Artifact,
  type Dataset,
  isTerminal,
  RUN_STATUSES,
  type Run,
  type RunStatus,
} from './runs/run.ts';
export { openSession, type Session, type SessionOptions } from './session.ts';
export type { ObjectStore } from './store/object-store.ts';
export { type OpenStoreOptions, openStore } from './store/open.ts';
export type { Appended, NewChunk } from './traces/append.ts';
export type { TraceQuery } from './traces/read.ts';
export type { TraceSlice, TraceState } from './traces/slice.ts';
export type { Traces } from './traces/traces.ts';
