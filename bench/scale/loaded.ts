import { Overlay } from '../../src/catalog/fold.ts';
import { CatalogState } from '../../src/catalog/state.ts';
import { activeView, tablesView } from '../../src/catalog/views.ts';
import { decodePart, partCodec } from '../../src/snapshot/codec.ts';
import { type Rows, RowsBuilder } from '../../src/snapshot/rows.ts';
import { cpuMs } from '../support/cpu.ts';
import { type Report, type ScenarioOptions, type Spread, spread } from '../support/report.ts';
import { batchesOf, type OrgSize, tailOf } from '../support/world.ts';

export interface LoadedOptions {
  size: OrgSize;
  tailRecords: number;
  rounds: number;
}

export interface Loaded {
  rows: number;
  tables: number;
  active: number;
  tailRecords: number;
  /**
   * Of heap and buffers (heapUsed + arrayBuffers), what decoding the rows from a part as a refresh does, indexing their
   * ids and asking tables() and active() once has left behind.
   */
  residentBytesPerRow: number;
  /** Columns and the index of their ids, by their own account. */
  columnBytesPerRow: number;
  /** ms. First: CPU, of a head that nobody asked before. After: of the state that a warm refresh has made. */
  tablesFirst: number;
  /** Mean CPU of this thread: on a machine that others use, the wall clock counts their turns too. */
  tablesAfterCpu: number;
  activeAfterCpu: number;
  tablesAfter: Spread;
  tablesAgain: Spread;
  activeFirst: number;
  activeAfter: Spread;
  activeAgain: Spread;
}

/** A child of `scale`: one org as a reader holds it, in a process where nothing else takes memory. */
export async function run({ child }: ScenarioOptions): Promise<Report> {
  const data = await measure(child as LoadedOptions);
  return { title: 'loaded', head: [], rows: [], notes: [], data };
}

const END = Date.UTC(2026, 9, 1);

async function measure({ size, tailRecords, rounds }: LoadedOptions): Promise<Loaded> {
  // Once through on another org, small: what the compiler keeps is no row's.
  ask(new CatalogState('warm', null, await load({ ...size, orgId: 'warm', runs: 2_000 }), new Overlay()));
  const before = await resident();
  const rows = await load(size);
  let state = new CatalogState(size.orgId, null, rows, new Overlay());
  rows.indexOf(rows.runId(0));
  const first = ask(state);
  const bytes = (await resident()) - before;
  // After the views: what they decoded.
  const columns = rows.sizeBytes;
  const cpu = { tables: 0, active: 0 };
  const after = { tables: [] as number[], active: [] as number[] };
  const again = { tables: [] as number[], active: [] as number[] };
  const warmups = 10;
  for (let round = -warmups; round < rounds; round++) {
    state = refreshed(size, rows, tailRecords, round);
    for (const samples of [after, again]) {
      const { tablesMs, activeMs, tablesCpu, activeCpu } = ask(state);
      if (round < 0) continue;
      if (samples === after) {
        cpu.tables += tablesCpu;
        cpu.active += activeCpu;
      }
      samples.tables.push(tablesMs);
      samples.active.push(activeMs);
    }
  }
  return {
    rows: rows.length,
    tables: tablesView(state).length,
    active: activeView(state).length,
    tailRecords,
    residentBytesPerRow: bytes / rows.length,
    columnBytesPerRow: columns / rows.length,
    tablesFirst: first.tablesCpu,
    tablesAfterCpu: cpu.tables / rounds,
    activeAfterCpu: cpu.active / rounds,
    tablesAfter: spread(after.tables),
    tablesAgain: spread(again.tables),
    activeFirst: first.activeCpu,
    activeAfter: spread(after.active),
    activeAgain: spread(again.active),
  };
}

/** Decoded from Parquet, as by a refresh: columns decode on first use, and the encoded ones stay until then. */
async function load(size: OrgSize): Promise<Rows> {
  return decodePart('part', await encoded(size));
}

async function encoded(size: OrgSize): Promise<Uint8Array> {
  const builder = new RowsBuilder(size.orgId, size.runs);
  for (const batch of batchesOf({ ...size, foldRecords: 20_000 }, END)) {
    for (const row of batch) builder.add(row);
  }
  return (await partCodec()).encode(builder.build());
}

/** Half of the tail are newer revisions of runs in the head, half are new runs. */
function refreshed(size: OrgSize, rows: Rows, records: number, round: number): CatalogState {
  const overlay = new Overlay();
  for (const [i, row] of tailOf(size, records, END + 60_000, round).entries()) {
    const known = rows.runId((i * 6_151 + round * 13 + rows.length) % rows.length);
    overlay.apply({ kind: 'put', row: i % 2 === 0 ? { ...row, run_id: known } : row });
  }
  const state = new CatalogState(size.orgId, null, rows, overlay);
  // A refresh has merged them before it resolves.
  void state.segments;
  return state;
}

function ask(state: CatalogState) {
  const times = [performance.now()];
  const cpus = [cpuMs()];
  for (const view of [tablesView, activeView]) {
    view(state);
    times.push(performance.now());
    cpus.push(cpuMs());
  }
  const step = (values: readonly number[], i: number) => values[i + 1]! - values[i]!;
  return {
    tablesMs: step(times, 0),
    activeMs: step(times, 1),
    tablesCpu: step(cpus, 0),
    activeCpu: step(cpus, 1),
  };
}

/** Heap and buffers in use, garbage apart: needs `--expose-gc`. */
async function resident(): Promise<number> {
  for (let i = 0; i < 4; i++) {
    globalThis.gc?.();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
