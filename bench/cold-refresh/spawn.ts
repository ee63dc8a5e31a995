import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Projection } from '../../src/runs/projection.ts';
import { endWithUs } from '../support/end-with-us.ts';
import { inTurn } from '../support/in-turn.ts';
import { firstDifference, otherRows } from '../support/same-rows.ts';
import type { Asked, Told } from './child.ts';

export interface Entrant {
  name: string;
  asked: (round: number) => Asked;
  /** What is done before the process of that round begins. */
  before?: (round: number) => Promise<void>;
}

export interface FreshSamples {
  name: string;
  rows: number;
  /** From the start of the process until its answer was here, as the one that started it sees it. */
  totalMs: number[];
  /** Of that, what the refresh took: the rest starts Node and loads code. */
  refreshMs: number[];
}

export interface FreshEvents {
  onStep(label: string, part?: number): void;
  onFailed(name: string, error: unknown): void;
}

const WARMUPS = 2;
const CHILD = join(import.meta.dirname, 'child.ts');
/** Compiled code, as a deployed image would have it: else parsing TypeScript would be half of what is measured. */
const CACHE = join(import.meta.dirname, '../../.cache/node-compile');

/**
 * A process for each sample, in turns, after one of each whose rows were exactly `expected`. Those whose rows were not, or
 * whose processes fail, are left out, and `onFailed` is told.
 */
export async function freshProcesses(
  entrants: readonly Entrant[],
  expected: readonly Projection[],
  rounds: number,
  { onStep, onFailed }: FreshEvents,
): Promise<FreshSamples[]> {
  const lines: { entrant: Entrant; samples: FreshSamples }[] = [];
  const failed = new Set<Entrant>();
  const tried = async (entrant: Entrant, work: () => Promise<void>) => {
    try {
      await work();
    } catch (error) {
      failed.add(entrant);
      onFailed(entrant.name, error);
    }
  };
  for (const entrant of entrants) {
    onStep(`${entrant.name}, checking`);
    await tried(entrant, async () => {
      const difference = await differenceInFreshProcess(entrant.asked(-WARMUPS), expected);
      if (difference !== null) throw otherRows(difference);
      lines.push({ entrant, samples: { name: entrant.name, rows: 0, totalMs: [], refreshMs: [] } });
    });
  }
  for (let round = -WARMUPS; round < rounds; round++) {
    for (const { entrant, samples } of inTurn(lines, round + WARMUPS)) {
      if (failed.has(entrant)) continue;
      onStep(`${entrant.name}, round ${round}`, (round + WARMUPS) / (rounds + WARMUPS));
      await tried(entrant, async () => {
        await entrant.before?.(round);
        const { told, totalMs } = await inFreshProcess(entrant.asked(round));
        samples.rows = told.rows;
        if (round < 0) return;
        samples.totalMs.push(totalMs);
        samples.refreshMs.push(told.refreshMs);
      });
    }
  }
  return lines.flatMap(({ entrant, samples }) => (failed.has(entrant) ? [] : [samples]));
}

/** Null when a process that begins now gives exactly these rows, else the first difference. */
export async function differenceInFreshProcess(
  asked: Asked,
  expected: readonly Projection[],
): Promise<unknown> {
  const { told } = await inFreshProcess({ ...asked, withRows: true });
  return firstDifference(told.projections!, expected);
}

/** One refresh by a process that begins now: `totalMs` from its start until its answer is here. */
export async function inFreshProcess(asked: Asked): Promise<{ told: Told; totalMs: number }> {
  const began = performance.now();
  const child = endWithUs(
    spawn(process.execPath, [CHILD, JSON.stringify(asked)], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, NODE_COMPILE_CACHE: CACHE },
    }),
  );
  let text = '';
  let totalMs = Number.NaN;
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
    if (text.endsWith('\n')) totalMs = performance.now() - began;
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (code !== 0) throw new Error(`A fresh process of ${asked.rival} ended with ${code}.`);
  return { told: JSON.parse(text) as Told, totalMs };
}
