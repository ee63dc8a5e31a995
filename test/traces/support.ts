import { expect } from 'vitest';
import { type ArchiveOptions, archiveOrg } from '../../compactor/archive.ts';
import type { Archived } from '../../compactor/archive-report.ts';
import type { CompactorContext } from '../../compactor/context.ts';
import { seededRandom } from '../../src/core/random.ts';
import { ObjectRunStore } from '../../src/runs/object-run-store.ts';
import type { Trace } from '../../src/runs/run.ts';
import { openSession } from '../../src/session.ts';
import { archivesPrefix, chunksPrefix } from '../../src/store/keys.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { readWork } from '../../src/traces/work.ts';
import { ORG } from '../support/runs.ts';
import type { fakeWorld } from '../support/world.ts';

export type TraceWorld = Awaited<ReturnType<typeof fakeWorld>>;
export const MINUTE = 60_000;
/** Longer than output is taken and waited for. */
export const SETTLED = 11 * MINUTE;
export const DAY = 24 * 60 * MINUTE;

export const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('utf8');
export const bytes = (value: string) => new TextEncoder().encode(value);

export async function started(world: TraceWorld, run_id: string): Promise<void> {
  await world.session.recorder.create(ORG, { run_id });
  await world.session.recorder.apply(ORG, run_id, { type: 'started', attempt: 1 });
}

export async function ended(world: TraceWorld, run_id: string, attempt = 1): Promise<void> {
  await world.session.recorder.apply(ORG, run_id, { type: 'succeeded', attempt });
}

/** Appends `log` in chunks of `size` bytes. */
export async function write(world: TraceWorld, run_id: string, log: string, { size = 10, attempt = 1 } = {}) {
  const body = bytes(log);
  for (let offset = 0; offset < body.length; offset += size)
    await world.session.traces.append(ORG, run_id, {
      attempt,
      offset,
      body: body.subarray(offset, offset + size),
    });
}

/** A run that has ended and left that log, long enough ago to be archived. */
export async function endedRun(world: TraceWorld, run_id: string, log: string, size = 10): Promise<void> {
  await started(world, run_id);
  await write(world, run_id, log, { size });
  await ended(world, run_id);
  await world.clock.advance(SETTLED);
}

export function archive(world: TraceWorld, options: ArchiveOptions = {}): Promise<Archived> {
  return archiveOrg(world.compactor, ORG, world.session.recorder, options);
}

/** Another compactor in another process, that reaches the store through `store`. */
export function archiver(world: TraceWorld, store: ObjectStore, seed = 77) {
  const { clock, compactor } = world;
  const session = openSession(store, { clock, random: seededRandom(seed), limits: compactor.limits });
  const context: CompactorContext = {
    ...compactor,
    store,
    runs: new ObjectRunStore(store, compactor.limits),
    random: seededRandom(seed + 1),
  };
  return (options: ArchiveOptions = {}) => archiveOrg(context, ORG, session.recorder, options);
}

export async function readAll(world: TraceWorld, run_id: string, attempt?: number): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const { body } of world.session.traces.stream(ORG, run_id, { attempt })) pieces.push(body);
  return text(Buffer.concat(pieces));
}

export async function traceOf(world: TraceWorld, run_id: string, attempt = 1): Promise<Trace> {
  const stored = await world.compactor.runs.read(ORG, run_id);
  return stored!.run.traces![attempt]!;
}

export async function keys(world: TraceWorld, prefix: string): Promise<string[]> {
  return (await world.memory.list({ prefix })).items.map(({ key }) => key);
}

export const chunkKeys = (world: TraceWorld, run_id?: string) => keys(world, chunksPrefix(ORG, run_id));
export const archiveKeys = (world: TraceWorld) => keys(world, archivesPrefix(ORG));
export const entries = async (world: TraceWorld) => (await readWork(world.memory, ORG)).work.entries;

/** Nothing is left but the archive: no chunk, no other archive, no bookkeeping. */
export async function expectArchived(
  world: TraceWorld,
  run_id: string,
  log: string,
  attempt = 1,
): Promise<void> {
  const trace = await traceOf(world, run_id, attempt);
  expect(trace).toMatchObject({ status: 'archived', archive: { bytes: bytes(log).length, gap_count: 0 } });
  expect(await readAll(world, run_id, attempt)).toBe(log);
  expect(await chunkKeys(world, run_id)).toEqual([]);
}
