import { hash } from 'node:crypto';
import { openCatalog } from '../src/catalog/catalog.ts';
import type { CatalogState } from '../src/catalog/state.ts';
import { crc32c } from '../src/core/crc32c.ts';
import type { Part } from '../src/manifest/manifest.ts';
import type { Projection } from '../src/runs/projection.ts';
import { decodeGroups } from '../src/snapshot/history-index.ts';
import { decodeHistoryGroup } from '../src/snapshot/history-read.ts';
import { readRange } from '../src/snapshot/parts.ts';
import type { Rows } from '../src/snapshot/rows.ts';
import { partKey } from '../src/store/keys.ts';
import type { CompactorContext } from './context.ts';

/** What the index shows of one run. */
export interface Known {
  revision: number;
  /** Checksum of the projection. */
  content: number;
  deleted: boolean;
}

const SLOT = 4;
/** Most orgs are small, and there may be many. */
const SLOTS_MIN = 64;
const DELETED = 1;
const SEEN = 2;

/**
 * What the index shows of an org's runs, in some 25 bytes a run: by a 64-bit hash of the id, which two runs of one org
 * share with a probability below 10⁻⁷ for a million runs.
 */
export class KnownRuns {
  /** high, low, revision, content; a slot is free while its revision is 0. */
  #slots = new Uint32Array(SLOTS_MIN * SLOT);
  #flags = new Uint8Array(SLOTS_MIN);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(runId: string): Known | null {
    const at = this.#find(hash64(runId));
    const revision = this.#slots[at * SLOT + 2]!;
    if (revision === 0) return null;
    return { revision, content: this.#slots[at * SLOT + 3]!, deleted: (this.#flags[at]! & DELETED) !== 0 };
  }

  /** The higher revision stays; of equal ones, the first. */
  note(runId: string, { revision, content, deleted }: Known): void {
    if (this.#size * 3 >= this.#flags.length * 2) this.#grow();
    const id = hash64(runId);
    const at = this.#find(id);
    const known = this.#slots[at * SLOT + 2]!;
    if (known >= revision) return;
    if (known === 0) this.#size++;
    this.#slots.set([id[0], id[1], revision, content], at * SLOT);
    this.#flags[at] = deleted ? DELETED : 0;
  }

  /** Of a run that is known; others cannot be told apart. */
  markSeen(runId: string): void {
    const at = this.#find(hash64(runId));
    if (this.#slots[at * SLOT + 2] !== 0) this.#flags[at]! |= SEEN;
  }

  isSeen(runId: string): boolean {
    return (this.#flags[this.#find(hash64(runId))]! & SEEN) !== 0;
  }

  #find([high, low]: readonly [number, number]): number {
    const slots = this.#slots;
    const mask = this.#flags.length - 1;
    for (let at = low & mask; ; at = (at + 1) & mask) {
      if (slots[at * SLOT + 2] === 0 || (slots[at * SLOT] === high && slots[at * SLOT + 1] === low))
        return at;
    }
  }

  #grow(): void {
    const [slots, flags] = [this.#slots, this.#flags];
    this.#slots = new Uint32Array(slots.length * 2);
    this.#flags = new Uint8Array(flags.length * 2);
    for (let old = 0; old < flags.length; old++) {
      if (slots[old * SLOT + 2] === 0) continue;
      const at = this.#find([slots[old * SLOT]!, slots[old * SLOT + 1]!]);
      this.#slots.set(slots.subarray(old * SLOT, old * SLOT + SLOT), at * SLOT);
      this.#flags[at] = flags[old]!;
    }
  }
}

const digest = Buffer.alloc(20);

function hash64(runId: string): readonly [number, number] {
  digest.write(hash('sha1', runId, 'binary'), 'latin1');
  return [digest.readUInt32BE(0), digest.readUInt32BE(4)];
}

/** Of a projection, whichever version of `project` made it: what verify compares. */
export function contentOf(row: Projection): number {
  return crc32c(new TextEncoder().encode(JSON.stringify({ ...row, projection_version: 0 })));
}

/** An org's index as of one refresh. */
export interface Index {
  state: CatalogState;
  known: KnownRuns;
  /** Those of the runs that are wanted; a run may count twice while it is replaced. */
  rows: number;
  /** What ended before it has no row. */
  horizon: number | null;
}

/** One refresh, and one read of every history part. `wanted` leaves runs out, for memory's sake. */
export async function readIndex(
  context: CompactorContext,
  orgId: string,
  options: { signal?: AbortSignal | undefined; wanted?: (runId: string) => boolean } = {},
): Promise<Index> {
  const { signal, wanted } = options;
  const { store, clock, limits, runs } = context;
  const { state } = await openCatalog(store, { clock, limits, runs }).org(orgId).refresh({ signal });
  const known = new KnownRuns();
  for (const fact of state.overlay.facts.values()) {
    if (fact.kind === 'delete')
      known.note(fact.run_id, { revision: fact.revision, content: 0, deleted: true });
  }
  let count = 0;
  for await (const { rows, i } of indexRows(context, state, signal)) {
    const runId = rows.runId(i);
    if (wanted !== undefined && !wanted(runId)) continue;
    count++;
    const revision = rows.revision(i);
    if ((known.get(runId)?.revision ?? 0) >= revision) continue;
    known.note(runId, { revision, content: contentOf(rows.get(i)), deleted: false });
  }
  return { state, known, rows: count, horizon: state.manifest?.horizon ?? null };
}

/** Every row that a refresh shows, then every row of history that head and tail do not replace; a run may come twice. */
export async function* indexRows(
  context: CompactorContext,
  state: CatalogState,
  signal?: AbortSignal,
): AsyncGenerator<{ rows: Rows; i: number }, void, void> {
  for (const { rows, replaced } of state.segments) {
    for (let i = 0; i < rows.length; i++) if (replaced === null || replaced[i] === 0) yield { rows, i };
  }
  for (const part of state.manifest?.parts ?? []) {
    if (part.level > 0) yield* partRows(context, state, part, signal);
  }
}

async function* partRows(
  { store }: CompactorContext,
  state: CatalogState,
  part: Part,
  signal: AbortSignal | undefined,
): AsyncGenerator<{ rows: Rows; i: number }, void, void> {
  const key = partKey(state.orgId, part.name);
  for (const group of decodeGroups(key, part.groups ?? '')) {
    const bytes = await readRange(store, state.orgId, part, group, { signal });
    const history = decodeHistoryGroup(key, state.orgId, bytes, group);
    for (let i = 0; i < history.length; i++) {
      if (history.isPrimary(i) && !state.knows(history.rows, i)) yield { rows: history.rows, i };
    }
  }
}
