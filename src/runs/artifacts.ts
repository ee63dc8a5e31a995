import { defaultLimits } from '../core/limits.ts';
import type { ArtifactEvent, ArtifactRef, NewArtifact } from './events.ts';
import { type Artifact, isTerminal, type Run } from './run.ts';
import { annotated, changed, refused, same, type Transition } from './transition.ts';

type EventOf<E extends ArtifactEvent['type']> = Extract<ArtifactEvent, { type: E }>;
type Artifacts = Readonly<Record<string, Artifact>>;

/**
 * Pure: what one change makes of a run's artifacts. What callers register is a change like any other. The clean-up
 * (`expire`, `settle`) does not move `indexed_revision`, and whoever cleans up sends the record himself (docs/PROTOCOL.md).
 * Once the run has ended nothing of this is of its life any more, and `updated_at` stays: see `annotated`.
 */
export function artifactTransition(run: Run, event: ArtifactEvent, now: number): Transition {
  if (event.type === 'put') return put(run, event, now);
  if (event.type === 'drop') return drop(run, event, now);
  if (!isTerminal(run.status)) {
    return refused(
      'RUN_NOT_TERMINAL',
      `The run is ${run.status}: its artifacts are in use.`,
      'Wait until it has ended.',
    );
  }
  return event.type === 'expire' ? expire(run, event, now) : settle(run, event, now);
}

/** Where an artifact stands among those of its run. Ids have no slash, and no `#`. */
export function artifactKey({ operator, port }: { operator: string; port: string }): string {
  return `${operator}/${port}`;
}

/** Own properties only: an operator may be called "constructor". */
export function artifactAt(run: Run, at: { operator: string; port: string }): Artifact | null {
  const key = artifactKey(at);
  return Object.hasOwn(run.artifacts, key) ? run.artifacts[key]! : null;
}

export const ARTIFACT_KINDS = ['result', 'console', 'statistics'] as const;
export type ArtifactKind = (typeof ARTIFACT_KINDS)[number];

/** Two ports have a meaning of their own; all others are results. */
export function kindOf(port: string): ArtifactKind {
  return port === 'console' || port === 'statistics' ? port : 'result';
}

/** Whether something is still to be removed, some day. */
export function isPending({ status, expires_at }: Artifact): boolean {
  return status === 'EXPIRING' || (status === 'PRESENT' && expires_at !== null);
}

/** For the index: how many there are, and when the first of those that are still to be removed is due. */
export function artifactSummary({ artifacts }: Run): { count: number; expires_at: number | null } | null {
  let count = 0;
  let first = Number.POSITIVE_INFINITY;
  for (const [key, artifact] of Object.entries(artifacts)) {
    if (!key.includes('#')) count++;
    if (isPending(artifact)) first = Math.min(first, artifact.expires_at!);
  }
  return count === 0 ? null : { count, expires_at: Number.isFinite(first) ? first : null };
}

/** Past its time, and not yet removed. */
export function isDue(artifact: Artifact, now: number): boolean {
  return isPending(artifact) && artifact.expires_at! <= now;
}

function put(run: Run, event: EventOf<'put'>, now: number): Transition {
  const key = artifactKey(event);
  const before = artifactAt(run, event);
  const asked = askedOf(event);
  if (before !== null && before.attempt === run.attempt && isSame(before, asked)) return same(run);
  const artifacts: Record<string, Artifact> = { ...run.artifacts };
  // A replaced object is still to be removed, when its time comes; but not where the new one is the same object.
  if (before !== null && isPending(before) && before.uri !== asked.uri)
    artifacts[`${key}#${run.revision}`] = before;
  for (const [other, { uri }] of Object.entries(artifacts))
    if (other.startsWith(`${key}#`) && uri === asked.uri) delete artifacts[other];
  artifacts[key] = {
    operator: event.operator,
    port: event.port,
    attempt: run.attempt,
    status: 'PRESENT',
    ...asked,
    registered_at: now,
    expires_at: asked.ttl_ms === null ? null : now + asked.ttl_ms,
    changed_at: now,
  };
  if (Object.keys(artifacts).length > defaultLimits.artifactsMax) forgetReplaced(artifacts);
  if (Object.keys(artifacts).length > defaultLimits.artifactsMax) {
    return refused(
      'LIMIT_EXCEEDED',
      `The run has ${defaultLimits.artifactsMax} artifacts already.`,
      'Register one artifact for many files, or split the work into more runs.',
    );
  }
  return registered(run, now, artifacts);
}

function registered(run: Run, now: number, artifacts: Record<string, Artifact>): Transition {
  return isTerminal(run.status) ? annotated(run, now, { artifacts }) : changed(run, now, { artifacts });
}

type Asked = Pick<Artifact, 'uri' | 'media_type' | 'bytes' | 'rows' | 'statistics' | 'ttl_ms'>;

function askedOf(event: NewArtifact): Asked {
  const { uri, media_type, bytes, rows, statistics, ttl_ms } = event;
  return {
    uri: uri ?? null,
    media_type: media_type ?? null,
    bytes: bytes ?? null,
    rows: rows ?? null,
    statistics: statistics == null ? null : { ...statistics },
    ttl_ms: ttl_ms ?? null,
  };
}

/** A repeat of the registration, however late: what has expired meanwhile does not come back by it. */
function isSame(before: Artifact, { statistics, ...asked }: Asked): boolean {
  const equal = Object.entries(asked).every(([name, value]) => before[name] === value);
  return equal && (before.status !== 'PRESENT' || isEqual(before.statistics, statistics));
}

function isEqual(a: Artifact['statistics'], b: Artifact['statistics']): boolean {
  if (a === null || b === null) return a === b;
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((n) => Object.hasOwn(b, n) && a[n] === b[n]);
}

/** Replaced ones whose removal is done tell nobody anything. */
function forgetReplaced(artifacts: Record<string, Artifact>): void {
  for (const [key, artifact] of Object.entries(artifacts))
    if (key.includes('#') && !isPending(artifact)) delete artifacts[key];
}

function drop(run: Run, event: EventOf<'drop'>, now: number): Transition {
  const before = artifactAt(run, event);
  if (before === null) {
    return refused(
      'ARTIFACT_NOT_FOUND',
      `The run has no artifact ${artifactKey(event)}.`,
      'Check operator and port.',
    );
  }
  if (before.status !== 'PRESENT' || before.ttl_ms === 0) return same(run);
  const expires_at = Math.min(now, before.expires_at ?? now);
  const dropped: Artifact = { ...before, ttl_ms: 0, expires_at, changed_at: now };
  return registered(run, now, { ...run.artifacts, [artifactKey(event)]: dropped });
}

function expire(run: Run, { remove, mark }: EventOf<'expire'>, now: number): Transition {
  const artifacts: Record<string, Artifact> = { ...run.artifacts };
  const due = (ref: ArtifactRef) => {
    const artifact = found(run.artifacts, ref);
    return artifact?.status === 'PRESENT' && isDue(artifact, now) ? artifact : null;
  };
  for (const [refs, status] of [
    [remove, 'EXPIRING'],
    [mark, 'EXPIRED'],
  ] as const) {
    for (const ref of refs) {
      const artifact = due(ref);
      if (artifact === null) continue;
      const owned = status === 'EXPIRING' && !isShared(run.artifacts, ref, now);
      artifacts[ref.key] = {
        ...artifact,
        status: owned ? 'EXPIRING' : 'EXPIRED',
        statistics: null,
        changed_at: now,
      };
    }
  }
  return cleaned(run, now, artifacts);
}

/** Whether another artifact of the run, whose time has not come, is the same object: the last of them takes it along. */
export function isShared(artifacts: Artifacts, { key, uri }: ArtifactRef, now: number): boolean {
  return Object.entries(artifacts).some(
    ([other, artifact]) =>
      other !== key && artifact.uri === uri && artifact.status === 'PRESENT' && !isDue(artifact, now),
  );
}

function settle(run: Run, { removed }: EventOf<'settle'>, now: number): Transition {
  const artifacts: Record<string, Artifact> = { ...run.artifacts };
  for (const ref of removed) {
    const artifact = found(run.artifacts, ref);
    if (artifact?.status === 'EXPIRING')
      artifacts[ref.key] = { ...artifact, status: 'DELETED', changed_at: now };
  }
  return cleaned(run, now, artifacts);
}

function found(artifacts: Artifacts, { key, uri }: ArtifactRef): Artifact | null {
  const artifact = Object.hasOwn(artifacts, key) ? artifacts[key]! : null;
  return artifact !== null && artifact.uri === uri ? artifact : null;
}

function cleaned(run: Run, now: number, artifacts: Record<string, Artifact>): Transition {
  const isSameAll = Object.entries(artifacts).every(([key, artifact]) => artifact === run.artifacts[key]);
  if (isSameAll) return same(run);
  const { indexed_revision, indexed_at } = run;
  return annotated(run, now, { artifacts, indexed_revision, indexed_at });
}
