import { describe, expect, it } from 'vitest';
import { defaultLimits } from '../../src/core/limits.ts';
import { artifactAt, isDue, isPending, kindOf } from '../../src/runs/artifacts.ts';
import type { ArtifactEvent, RunEvent } from '../../src/runs/events.ts';
import { checkRunEvent } from '../../src/runs/input.ts';
import { transition } from '../../src/runs/lifecycle.ts';
import { project } from '../../src/runs/projection.ts';
import { decodeRun, encodeRun, type Run } from '../../src/runs/run.ts';
import { START } from '../support/fake-clock.ts';
import { must, runOf } from '../support/runs.ts';

const MINUTE = 60_000;
const attempt = 1;
const A = 'gs://results/acme/run-1/a';
const B = 'gs://results/acme/run-1/b';
const at = { operator: 'scan', port: 'out' };
const KEY = 'scan/out';

const event = (artifact: ArtifactEvent, of = attempt): RunEvent => ({
  type: 'artifact',
  attempt: of,
  artifact,
});
const put = (changes: Partial<Extract<ArtifactEvent, { type: 'put' }>> = {}) =>
  event({ type: 'put', ...at, uri: A, ttl_ms: MINUTE, ...changes });
const drop = event({ type: 'drop', ...at });
const expire = (key = KEY, uri: string | null = A) =>
  event({ type: 'expire', remove: [{ key, uri }], mark: [] });
const mark = (key = KEY, uri: string | null = A) =>
  event({ type: 'expire', remove: [], mark: [{ key, uri }] });
const settle = (key = KEY, uri: string | null = A) => event({ type: 'settle', removed: [{ key, uri }] });

const running = must(runOf(), { type: 'started', attempt }, START);
const ended = must(running, { type: 'succeeded', attempt }, START + 1_000);
const left = must(ended, put(), START + 2_000);
const due = START + 2_000 + MINUTE;

const statusOf = (run: Run, key = KEY) => run.artifacts[key]?.status;
const refusal = (run: Run, what: RunEvent, now: number) => {
  const answer = transition(run, what, now);
  return answer.outcome === 'refused' ? answer.code : answer.outcome;
};

describe('registering', () => {
  it('says what was said, and what the rest is', () => {
    expect(artifactAt(left, at)).toEqual({
      ...at,
      attempt: 1,
      status: 'PRESENT',
      uri: A,
      media_type: null,
      bytes: null,
      rows: null,
      statistics: null,
      ttl_ms: MINUTE,
      registered_at: START + 2_000,
      expires_at: due,
      changed_at: START + 2_000,
    });
    expect(artifactAt(left, { operator: 'constructor', port: 'out' })).toBeNull();
    expect(left).toMatchObject({
      revision: ended.revision + 1,
      updated_at: ended.updated_at,
      changed_at: START + 2_000,
      finished_at: ended.finished_at,
      indexed_revision: left.revision,
    });
    expect(['out', 'console', 'statistics'].map(kindOf)).toEqual(['result', 'console', 'statistics']);
  });

  it('a repeat, however late, changes nothing and puts nothing off', () => {
    expect(must(left, put(), START + 30_000)).toBe(left);
    const gone = must(must(left, expire(), due), settle(), due);
    expect(must(gone, put(), due + MINUTE)).toBe(gone);
  });

  it('something else replaces it; what was there is still removed when its time comes', () => {
    const replaced = must(left, put({ uri: B, ttl_ms: 5 * MINUTE }), START + 3_000);
    const old = `${KEY}#${left.revision}`;
    expect(Object.keys(replaced.artifacts).sort()).toEqual([KEY, old]);
    expect(project(replaced).artifacts).toEqual({ count: 1, expires_at: due });
    const cleaned = must(must(replaced, expire(old), due), settle(old), due);
    expect([statusOf(cleaned), statusOf(cleaned, old)]).toEqual(['PRESENT', 'DELETED']);
    expect(project(cleaned).artifacts?.expires_at).toBe(START + 3_000 + 5 * MINUTE);
  });

  it('the same object again takes the place of the one that was to go', () => {
    const replaced = must(left, put({ uri: B }), START + 3_000);
    const again = must(replaced, put({ uri: A, ttl_ms: null }), START + 4_000);
    expect(Object.values(again.artifacts).map(({ uri, expires_at }) => [uri, expires_at])).toEqual([
      [A, null],
      [B, START + 3_000 + MINUTE],
    ]);
    const kept = must(left, put({ rows: 3 }), START + 3_000);
    expect(Object.keys(kept.artifacts)).toEqual([KEY]);
  });

  it('a worker of a past attempt is not heard', () => {
    const failed = must(
      must(running, put(), START),
      { type: 'failed', attempt, error: { code: null, message: '' } },
      START,
    );
    const retried = must(
      must(failed, { type: 'retry', attempt }, START),
      { type: 'started', attempt: 2 },
      START,
    );
    expect(refusal(retried, put(), START)).toBe('ATTEMPT_STALE');
    const again = must(retried, event({ type: 'put', ...at, uri: A, ttl_ms: MINUTE }, 2), START);
    expect(artifactAt(again, at)?.attempt).toBe(2);
  });

  it('a run has a bounded number of them; replaced ones that are gone make room', () => {
    let run = must(left, put({ uri: B }), START + 3_000);
    const artifacts = { ...run.artifacts };
    for (let i = Object.keys(artifacts).length; i < defaultLimits.artifactsMax; i++)
      artifacts[`op${i}/out`] = { ...artifacts[KEY]!, operator: `op${i}` };
    run = { ...run, artifacts };
    expect(refusal(run, put({ operator: 'one-more' }), START + 3_000)).toBe('LIMIT_EXCEEDED');
    expect(refusal(run, put({ rows: 4 }), START + 3_000)).toBe('changed');
    const old = `${KEY}#${left.revision}`;
    const settled = must(must(run, expire(old), due), settle(old), due);
    expect(Object.keys(must(settled, put({ operator: 'one-more' }), due).artifacts)).not.toContain(old);
  });

  it('an old run reads as one without, and is written as it was', () => {
    const bytes = encodeRun(ended);
    expect(new TextDecoder().decode(bytes)).not.toContain('artifacts');
    expect(decodeRun('k', bytes)).toEqual(ended);
    expect(decodeRun('k', encodeRun(left))).toEqual(left);
  });

  it.each([
    ['neither uri nor figures', { uri: undefined }],
    ['no URI', { uri: '/etc/passwd' }],
    ['a script', { uri: 'javascript:alert(1)' }],
    ['spaces', { uri: 'gs://b/a b' }],
    ['a line break', { uri: 'gs://b/a\nb' }],
    ['an operator that climbs', { operator: '../x' }],
    ['a port with a slash', { port: 'a/b' }],
    ['a lifetime of none', { ttl_ms: 0 }],
    ['a lifetime beyond all', { ttl_ms: 1e15 }],
    ['figures that are none', { statistics: { busy_ms: Number.NaN } }],
    [
      'too many figures',
      { statistics: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`f${i}`, i])) },
    ],
    ['a status of its own', { status: 'DELETED' }],
  ])('refuses %s', (_, changes) => {
    expect(() => checkRunEvent('run-1', put(changes as object))).toThrow(/is not valid/);
  });
});

describe('giving up', () => {
  it('makes it due at once; a registration brings it back', () => {
    const dropped = must(left, drop, START + 5_000);
    expect(artifactAt(dropped, at)).toMatchObject({
      status: 'PRESENT',
      expires_at: START + 5_000,
      ttl_ms: 0,
    });
    expect(must(dropped, drop, START + 6_000)).toBe(dropped);
    expect(project(dropped).artifacts).toEqual({ count: 1, expires_at: START + 5_000 });
    expect(artifactAt(must(dropped, put(), START + 7_000), at)).toMatchObject({
      expires_at: START + 7_000 + MINUTE,
    });
    expect(refusal(ended, drop, START)).toBe('ARTIFACT_NOT_FOUND');
  });
});

describe('the clean-up', () => {
  it('marks, then settles; neither is a change of the run’s life', () => {
    const expiring = must(left, expire(), due);
    expect(statusOf(expiring)).toBe('EXPIRING');
    const { updated_at, indexed_revision, indexed_at, finished_at } = left;
    const unmoved = { updated_at, indexed_revision, indexed_at, finished_at };
    expect(expiring).toMatchObject({ revision: left.revision + 1, ...unmoved });
    expect(project(expiring).artifacts).toEqual({ count: 1, expires_at: due });
    const settled = must(expiring, settle(), due + 1);
    expect(settled).toMatchObject({ revision: left.revision + 2, ...unmoved });
    expect(statusOf(settled)).toBe('DELETED');
    expect(project(settled).artifacts).toEqual({ count: 1, expires_at: null });
    expect(must(expiring, expire(), due + 1)).toBe(expiring);
    expect(must(settled, settle(), due + 1)).toBe(settled);
    expect(statusOf(must(left, mark(), due))).toBe('EXPIRED');
  });

  it('touches nothing before its time, nothing else, and nothing that says something else by now', () => {
    expect(must(left, expire(), due - 1)).toBe(left);
    expect(must(left, expire(KEY, B), due)).toBe(left);
    expect(must(left, expire('constructor', A), due)).toBe(left);
    expect(must(left, settle(), due)).toBe(left);
    const never = must(ended, put({ ttl_ms: null }), START);
    expect(must(never, expire(), due * 2)).toBe(never);
    expect([isPending(never.artifacts[KEY]!), isDue(left.artifacts[KEY]!, due)]).toEqual([false, true]);
  });

  it('an object that another artifact still needs is left to that one', () => {
    const both = must(left, put({ port: 'copy', ttl_ms: 5 * MINUTE }), START + 2_000);
    const one = must(both, expire(), due);
    expect([statusOf(one), statusOf(one, 'scan/copy')]).toEqual(['EXPIRED', 'PRESENT']);
    const later = must(one, expire('scan/copy'), due + 5 * MINUTE);
    expect(statusOf(later, 'scan/copy')).toBe('EXPIRING');
  });

  it('never looks at a run that is worked on', () => {
    const worked = must(running, put(), START);
    for (const what of [expire(), mark(), settle()])
      expect(refusal(worked, what, due)).toBe('RUN_NOT_TERMINAL');
  });

  it('figures go with what they belong to', () => {
    const figures = must(ended, put({ uri: null, statistics: { busy_ms: 5 } }), START + 2_000);
    expect(must(figures, mark(KEY, null), due).artifacts[KEY]).toMatchObject({
      status: 'EXPIRED',
      statistics: null,
    });
  });
});

it('a deleted run forgets its artifacts', () => {
  expect(must(left, { type: 'delete' }, due).artifacts).toEqual({});
});
