import type { Run } from './run.ts';

/** Where canonical runs live. Storage is dumb: every rule of the lifecycle is in `transition`. */
export interface RunStore {
  readonly url: string;
  /** One request. `token` names this state for `replace`. */
  read(orgId: string, runId: string, signal?: AbortSignal): Promise<StoredRun | null>;
  /** One atomic step: exactly one of racing creates is `written`. */
  create(run: Run, signal?: AbortSignal): Promise<RunWrite>;
  /** Compare-and-set on the token. */
  replace(run: Run, token: string, signal?: AbortSignal): Promise<RunWrite>;
  /** Removes exactly the state that `token` names. */
  remove(orgId: string, runId: string, token: string, signal?: AbortSignal): Promise<RunWrite>;
  /** All runs (of one org), ascending by (org, run id), object stores by their keys; unreadable ones as problems. Bounded memory. */
  scan(options?: ScanOptions): AsyncIterable<ScannedRun>;
  close(): Promise<void>;
}

export interface ScanOptions {
  orgId?: string | undefined;
  /** Told of flat keys of older deployments, whose org is inside (ADR 0003): they are passed over. */
  onFlat?: ((key: string) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface StoredRun {
  run: Run;
  token: string;
}

export type RunWrite =
  | { outcome: 'written'; token: string | null }
  /** Somebody else's state is there (or none): read again and decide. */
  | { outcome: 'conflict' }
  | { outcome: 'unknown'; cause: unknown };

export type ScannedRun =
  | { key: string; run: Run }
  /** The ids are those it is stored under, allowed or not; a store of your own may leave them out. */
  | { key: string; problem: unknown; org_id?: string | undefined; run_id?: string | undefined };
