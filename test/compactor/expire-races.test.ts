import { expect, it } from 'vitest';
import { expireOrg } from '../../compactor/expire.ts';
import { dueRuns } from '../../src/catalog/due.ts';
import { type Random, seededRandom, uniform } from '../../src/core/random.ts';
import { isDue } from '../../src/runs/artifacts.ts';
import { decodeRun, isTerminal } from '../../src/runs/run.ts';
import { runKey } from '../../src/store/keys.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { intercept } from '../support/intercept.ts';
import { ORG } from '../support/runs.ts';
import { expectLaw2, fakeWorld } from '../support/world.ts';

const URL = 'gs://results';
const SEEDS = 8;
const RUNS = ['run-0', 'run-1', 'run-2'];

/** Workers, retries, drops, and sweeps that die, meet faults and race each other, in an order that the seed decides. */
async function simulate(seed: number) {
  const random = seededRandom(seed);
  const chance = (p: number) => uniform(random) < p;
  const world = await fakeWorld({ seed });
  const objects = new MemoryStore({ clock: world.clock });
  const { recorder } = world.session;
  const counts = { deleted: 0, refused: 0, unknown: 0, conflicts: 0 };
  // Not thrown on the spot: a sweep would take it for a trouble of the store.
  const violations: string[] = [];
  let working = true;

  const runNow = async (runId: string) => {
    const got = await world.memory.get(runKey(ORG, runId));
    return got.outcome === 'found' ? decodeRun('run', got.body) : null;
  };
  /** What must hold at the instant at which an object goes. Its name tells the attempt that wrote it. */
  const check = async (key: string) => {
    const [, runId, attempt] = key.split('/') as [string, string, string];
    const run = (await runNow(runId))!;
    const isLive = !isTerminal(run.status) && Number(attempt) === run.attempt;
    const isNeeded = Object.values(run.artifacts).some(
      ({ uri, status }) => uri === `${URL}/${key}` && status === 'PRESENT',
    );
    if (isLive || isNeeded) violations.push(`${key} went while it was ${isLive ? 'written' : 'there'}`);
  };
  const shaky = intercept(objects, async ({ operation, key }, go) => {
    await turns(random);
    if (working && operation === 'head' && chance(0.05)) throw new Error('no answer');
    if (operation !== 'delete') return go();
    const lost = working && chance(0.2);
    if (lost && chance(0.5)) {
      counts.unknown++;
      return { outcome: 'unknown', cause: new Error('never sent') };
    }
    // A late write of the same name: nobody has looked at this one.
    if (working && chance(0.1) && (await objects.head(key)) !== null)
      await objects.put(key, new Uint8Array(3));
    const answer = (await go()) as { outcome: string };
    if (answer.outcome === 'deleted') {
      counts.deleted++;
      await check(key);
    }
    if (answer.outcome === 'conflict') counts.conflicts++;
    return lost ? { outcome: 'unknown', cause: new Error('answer lost') } : answer;
  });

  const apply = async (runId: string, event: object) => {
    await turns(random);
    await recorder.apply(ORG, runId, event as never).catch(() => counts.refused++);
  };
  const worker = async (runId: string) => {
    await recorder.create(ORG, { run_id: runId });
    for (let attempt = 1, n = 0; attempt <= 3; attempt++) {
      await apply(runId, { type: 'started', attempt });
      const leave = async () => {
        const port = chance(0.5) ? 'out' : 'log';
        const key = `${ORG}/${runId}/${attempt}/${n++}`;
        await objects.put(key, new Uint8Array(1));
        const ttl_ms = chance(0.2) ? null : 1 + Math.floor(2_000 * uniform(random));
        const artifact = { type: 'put', operator: 'scan', port, uri: `${URL}/${key}`, ttl_ms };
        for (let i = chance(0.3) ? 2 : 1; i > 0; i--)
          await apply(runId, { type: 'artifact', attempt, artifact });
        if (chance(0.2))
          await apply(runId, {
            type: 'artifact',
            attempt,
            artifact: { type: 'drop', operator: 'scan', port },
          });
      };
      for (let i = 0; i < 3; i++) await leave();
      const succeeded = chance(0.3);
      await apply(runId, succeeded ? { type: 'succeeded', attempt } : failed(attempt));
      if (chance(0.5)) await leave();
      await world.clock.advance(1_500);
      if (succeeded) return;
      // Sweeps have begun by now: some of them are overtaken.
      await turns(random, 30);
      if (chance(0.8)) await apply(runId, { type: 'retry', attempt });
    }
  };
  const sweeper = async (store: ObjectStore) => {
    while (working) {
      await turns(random);
      const stop = new AbortController();
      if (chance(0.3)) turns(random, 40).then(() => stop.abort());
      const results = { url: URL, store };
      await expireOrg(world.compactor, ORG, recorder, { results, signal: stop.signal }).catch(
        () => undefined,
      );
      if (chance(0.2)) await world.compact();
    }
  };
  const sweepers = [sweeper(shaky), sweeper(shaky)];
  await Promise.all(RUNS.map(worker));
  working = false;
  await Promise.all(sweepers);

  // In the end all that is due is gone, and known to be.
  for (const run_id of RUNS)
    await recorder.apply(ORG, run_id, { type: 'force_cancel' }).catch(() => undefined);
  await world.clock.advance(10_000);
  for (let i = 0; i < 3; i++)
    await expireOrg(world.compactor, ORG, recorder, { results: { url: URL, store: shaky } });
  const org = await world.read();
  expect(await dueRuns(org, world.clock.now()), `${seed}`).toEqual([]);
  for (const runId of RUNS) {
    const run = (await runNow(runId))!;
    for (const artifact of Object.values(run.artifacts)) {
      const key = artifact.uri!.slice(URL.length + 1);
      expect(isDue(artifact, world.clock.now())).toBe(false);
      expect((await objects.head(key)) !== null, `${seed}: ${key} ${artifact.status}`).toBe(
        artifact.status === 'PRESENT',
      );
    }
  }
  await expectLaw2(world, org);
  expect(violations, `seed ${seed}`).toEqual([]);
  return counts;
}

const failed = (attempt: number) => ({ type: 'failed', attempt, error: { code: null, message: 'x' } });

/** Lets others go first, now and then many. */
async function turns(random: Random, most = 6): Promise<void> {
  for (let n = Math.floor(most * uniform(random) ** 2); n > 0; n--) await new Promise(setImmediate);
}

it('deletes nothing that anybody needs, and leaves nothing that is over, whatever comes between', async () => {
  const sums = { deleted: 0, refused: 0, unknown: 0, conflicts: 0 };
  for (let seed = 1; seed <= SEEDS; seed++) {
    const counts = await simulate(seed);
    for (const name of Object.keys(sums) as (keyof typeof sums)[]) sums[name] += counts[name];
  }
  for (const [name, count] of Object.entries(sums)) expect(count, name).toBeGreaterThan(0);
}, 60_000);
