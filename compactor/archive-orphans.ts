import { uuidv7Time } from '../src/core/uuid.ts';
import type { Run } from '../src/runs/run.ts';
import { neverNames } from '../src/runs/traces.ts';
import { archiveKey } from '../src/store/keys.ts';
import type { TraceContext } from '../src/traces/context.ts';
import { removeArchives } from '../src/traces/remove.ts';
import { nameTtlMs } from './archive-entries.ts';

/** Names of archives that tries at a run wrote, or may have, and that the run does not name. */
export interface Orphans {
  orgId: string;
  run: Run | null;
  names: readonly string[];
}

/**
 * Deletes those that nobody can commit any more, and tells the names that need no looking after. An archiver may have
 * been asleep between its last check and its commit for any time: what the run may yet come to name stays, and its name
 * stays with it. Time only tells when nothing is put any more, so that a name without an object can be forgotten. 1
 * HEAD each; 1 HEAD and 1 DELETE more where it is deleted.
 */
export async function removeOrphans(
  context: TraceContext,
  { orgId, run, names }: Orphans,
  forget: Set<string>,
  signal: AbortSignal,
): Promise<number> {
  const { store, limits, recorder } = context;
  let deleted = 0;
  for (const name of names) {
    const age = recorder.now() - (uuidv7Time(name) ?? 0);
    if (age <= nameTtlMs(limits)) continue;
    const key = archiveKey(orgId, name);
    const meta = await store.head(key, { signal });
    if (meta === null) forget.add(name);
    else if (run === null) {
      // Nobody knows what it named. It may be restored as long as chunks live; the object stays until the policy lets it go.
      if (age > limits.traceChunkLifetimeMs) forget.add(name);
    } else if (isNobodys(run, key, meta.metadata)) {
      deleted += await removeArchives(context, orgId, [key], signal);
      forget.add(name);
    }
  }
  return deleted;
}

/** By what the object says of its attempt; where it says nothing, every attempt must rule it out. */
export function isNobodys(
  run: Run,
  key: string,
  metadata: Readonly<Record<string, string>> | undefined,
): boolean {
  const attempt = Number(metadata?.attempt);
  if (Number.isSafeInteger(attempt) && attempt > 0) return neverNames(run, attempt, key);
  return Array.from({ length: run.attempt }, (_, i) => i + 1).every((one) => neverNames(run, one, key));
}
