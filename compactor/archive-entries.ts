import type { Limits } from '../src/core/limits.ts';
import { type Random, uniform } from '../src/core/random.ts';
import { uuidv7Time } from '../src/core/uuid.ts';
import { newEntry, type Work, type WorkEntry } from '../src/traces/work.ts';

/** A try at a run: `by` is unique to it, `names` are the archives that it may write. */
export interface Claim {
  by: string;
  names: readonly string[];
}

/**
 * Takes the runs that nobody is at. What others claim stays; of a list that is full, the entries with the least hope
 * make room, and where none can, the entries tell who got what. Pure, as all here; applied twice it does no harm.
 */
export function withClaims(
  work: Work,
  claims: ReadonlyMap<string, Claim>,
  now: number,
  limits: Limits,
): Work {
  const entries = { ...work.entries };
  for (const runId of dropped(work, claims, now, limits)) delete entries[runId];
  let free = limits.traceWorkMax - Object.keys(entries).length;
  for (const [runId, { by, names }] of claims) {
    const known = entryOf(work, runId);
    if (known === null && free-- <= 0) continue;
    const entry = known ?? newEntry(now);
    if (entry.claim?.by === by || isClaimed(entry, now, limits)) continue;
    const attempts = entry.attempts + 1;
    entries[runId] = { ...entry, attempts, claim: { by, at: now }, names: [...entry.names, ...names] };
  }
  return { ...work, entries };
}

/**
 * Runs whose entries make room for claims in a full list: given up ones first, then those that failed most often, so
 * that logs without a problem are always archived. Only what nobody is at and leaves nothing to remove; it is tried
 * again, as if for the first time.
 */
export function dropped(
  work: Work,
  claims: ReadonlyMap<string, Claim>,
  now: number,
  limits: Limits,
): string[] {
  const wanted = [...claims.keys()].filter((runId) => entryOf(work, runId) === null).length;
  const excess = Object.keys(work.entries).length + wanted - limits.traceWorkMax;
  if (excess <= 0) return [];
  return Object.entries(work.entries)
    .filter(
      ([runId, entry]) => !claims.has(runId) && entry.names.length === 0 && !isClaimed(entry, now, limits),
    )
    .sort(([, a], [, b]) => Number(b.stale) - Number(a.stale) || b.attempts - a.attempts)
    .slice(0, excess)
    .map(([runId]) => runId);
}

/** How a claim ended. */
export interface Settled {
  by: string;
  /** That the claim was made with. */
  names: readonly string[];
  /** Names that need no looking after any more: committed, never written, or removed. */
  forget: ReadonlySet<string>;
  outcome:
    | { kind: 'done' }
    /** As if it had not been tried. */
    | { kind: 'released'; next_at: number }
    | { kind: 'failed'; code: string; message: string; next_at: number; stale: boolean };
}

export function withSettled(
  work: Work,
  settled: ReadonlyMap<string, Settled>,
  cursor: Work['cursor'],
  now: number,
  limits: Limits,
): Work {
  const entries = { ...work.entries };
  for (const [runId, { by, names: tried, forget, outcome }] of settled) {
    // Who was late comes back with what it put: another may have looked before it was there, and forgotten its name.
    const entry = entryOf(
      withNames(
        work,
        runId,
        tried.filter((name) => !forget.has(name)),
        now,
      ),
      runId,
    );
    if (entry === null) continue;
    const names = entry.names.filter((name) => !forget.has(name));
    if (entry.claim?.by !== by) entries[runId] = { ...entry, names };
    else {
      const next = settledEntry(entry, names, outcome, now, limits);
      if (next === null) delete entries[runId];
      else entries[runId] = { ...next, claim: null };
    }
  }
  return { ...work, entries, cursor };
}

/** Names of archives that need looking after, in the entry of their run. */
export function withNames(work: Work, runId: string, names: readonly string[], now: number): Work {
  if (names.length === 0) return work;
  const entry = entryOf(work, runId) ?? newEntry(now);
  const all = [...new Set([...entry.names, ...names])];
  return { ...work, entries: { ...work.entries, [runId]: { ...entry, names: all } } };
}

function settledEntry(
  entry: WorkEntry,
  names: string[],
  outcome: Settled['outcome'],
  now: number,
  limits: Limits,
): WorkEntry | null {
  if (outcome.kind === 'failed') {
    const { code, message, next_at, stale } = outcome;
    return { ...entry, names, next_at, stale, error: { code, message } };
  }
  if (outcome.kind === 'released') {
    const attempts = entry.attempts - 1;
    const isNew = attempts === 0 && names.length === 0 && outcome.next_at <= now;
    return isNew ? null : { ...entry, names, attempts, next_at: outcome.next_at };
  }
  if (names.length === 0) return null;
  // Looked at once no put of the claim can land any more; what somebody may yet commit, the longer the more seldom.
  const oldest = Math.min(...names.map((name) => uuidv7Time(name) ?? now));
  const waitMs = Math.max(nameTtlMs(limits), Math.min(limits.traceBackoffMaxMs, (now - oldest) / 4));
  return { ...newEntry(now), names, next_at: now + Math.ceil(waitMs) };
}

export function entryOf(work: Work, runId: string): WorkEntry | null {
  return Object.hasOwn(work.entries, runId) ? work.entries[runId]! : null;
}

/** Whoever claimed it longer ago has died, or finds that it was late. */
export function isClaimed({ claim }: WorkEntry, now: number, limits: Limits): boolean {
  return claim !== null && now - claim.at < limits.traceClaimMs;
}

/** From a claim until no put of it can land, unless who made it was asleep meanwhile: says nothing of its commit. */
export function nameTtlMs({ traceClaimMs, operationDeadlineMs, lateWriteMaxMs }: Limits): number {
  return traceClaimMs + operationDeadlineMs + lateWriteMaxMs;
}

/** Doubling, with jitter: somewhere in the upper half of the bound. `attempts` from 1 on. */
export function nextTryMs(attempts: number, limits: Limits, random: Random): number {
  const bound = Math.min(
    limits.traceBackoffMaxMs,
    limits.traceBackoffBaseMs * 2 ** Math.min(attempts - 1, 40),
  );
  return Math.ceil(bound / 2 + (uniform(random) * bound) / 2);
}

/** Whether the next try takes what survives. Of an entry as it is before the try is counted. */
export function isLastResort({ attempts, since }: WorkEntry, now: number, limits: Limits): boolean {
  return attempts >= limits.traceAttemptsMax || (attempts > 0 && now - since > limits.traceWindowMs);
}
