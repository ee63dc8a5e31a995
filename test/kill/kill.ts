import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { openCompactor } from '../../compactor/open.ts';
import { compactPass } from '../../compactor/pass.ts';
import { sweepOrg } from '../../compactor/sweep.ts';
import { verifyOrg } from '../../compactor/verify.ts';
import { seededRandom, uniform } from '../../src/core/random.ts';
import { openSession } from '../../src/session.ts';
import { openStore } from '../../src/store/open.ts';
import { KILL_LIMITS, ORGS } from './limits.ts';

export interface Killed {
  kills: { writer: number; compactor: number };
  acknowledged: number;
  runs: number;
  versions: number;
  /** Empty: nothing acknowledged was lost, and every law that `verify` checks holds. */
  problems: string[];
  seconds: number;
}

const WORKER = new URL('./worker.ts', import.meta.url).pathname;

/**
 * Writers and compactors on one file store, killed with SIGKILL at random instants and started again, `kills` times.
 * Then the sweep and a fold mend what nobody redelivered, and everything is verified.
 */
export async function killAround(
  kills: number,
  seed: number,
  onKill?: (count: number) => void,
): Promise<Killed> {
  const began = performance.now();
  const random = seededRandom(seed);
  const dir = await mkdtemp(join(tmpdir(), 'runfold-kill-'));
  const url = `file:${dir}`;
  const acknowledged = new Map<string, number>();
  const result: Killed = {
    kills: { writer: 0, compactor: 0 },
    acknowledged: 0,
    runs: 0,
    versions: 0,
    problems: [],
    seconds: 0,
  };
  let started = 0;
  const start = (role: 'writer' | 'compactor') => {
    const child = spawn(process.execPath, [WORKER, role, url, String(seed * 100_000 + started++)], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let errors = '';
    child.stderr.on('data', (chunk) => {
      errors += chunk;
    });
    child.on('exit', (code, signal) => {
      if (signal !== 'SIGKILL')
        result.problems.push(`a ${role} ended by itself (${code ?? signal}): ${errors.slice(0, 500)}`);
    });
    const ready = new Promise<void>((resolve) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        if (line === '"ready"') return resolve();
        const [orgId, runId, revision] = JSON.parse(line) as [string, string, number];
        const key = `${orgId} ${runId}`;
        acknowledged.set(key, Math.max(revision, acknowledged.get(key) ?? 0));
        result.acknowledged++;
      });
      // One that ended by itself is a problem already; do not wait for it.
      child.on('exit', () => resolve());
    });
    return { role, child, ready };
  };
  const roles = ['writer', 'compactor', 'writer', 'compactor', 'writer', 'compactor'] as const;
  const workers = roles.map(start);
  try {
    for (let count = 1; count <= kills; count++) {
      const at = Math.floor(uniform(random) * workers.length);
      const { role, child, ready } = workers[at]!;
      // At work, and in the middle of whatever it is doing.
      await ready;
      await new Promise((resolve) => setTimeout(resolve, Math.floor(uniform(random) * 150)));
      await kill(child);
      result.kills[role]++;
      workers[at] = start(role);
      onKill?.(count);
    }
  } finally {
    await Promise.all(workers.map(({ child }) => kill(child)));
  }
  await audit(url, acknowledged, result);
  await rm(dir, { recursive: true, force: true });
  result.seconds = (performance.now() - began) / 1000;
  return result;
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGKILL');
  await closed;
}

async function audit(url: string, acknowledged: ReadonlyMap<string, number>, result: Killed): Promise<void> {
  const store = await openStore(url);
  const session = openSession(store, { limits: KILL_LIMITS });
  const compactor = await openCompactor(session);
  for (const orgId of ORGS) await sweepOrg(compactor, orgId, session.recorder, { ageMs: -1 });
  await compactPass(compactor, { orgs: 'all' });
  for (const orgId of ORGS) {
    const { problems, checked } = await verifyOrg(compactor, orgId);
    result.runs += checked.runs;
    for (const { law, run_id, key, message } of problems)
      result.problems.push(`law ${law}, ${orgId} ${run_id ?? key}: ${message}`);
    const org = await session.catalog.org(orgId).refresh();
    result.versions += org.state.manifest?.version ?? 0;
    const shown = new Map<string, number>();
    for await (const row of org.runs()) shown.set(row.run_id, row.revision);
    for (const [key, revision] of acknowledged) {
      const [of, runId] = key.split(' ') as [string, string];
      if (of !== orgId || (shown.get(runId) ?? 0) >= revision) continue;
      result.problems.push(
        `law 3: ${key} was acknowledged at revision ${revision}, shown at ${shown.get(runId) ?? 'none'}`,
      );
    }
  }
  await session.close();
  await store.close();
}
