import type { FoldPolicy } from '../../compactor/due.ts';
import { openCompactor } from '../../compactor/open.ts';
import { compactPass } from '../../compactor/pass.ts';
import { openCatalog } from '../../src/catalog/catalog.ts';
import { type Random, seededRandom, uniform } from '../../src/core/random.ts';
import { uuidv7 } from '../../src/core/uuid.ts';
import { encodeRun } from '../../src/runs/run.ts';
import { openSession, type Session } from '../../src/session.ts';
import { DIRTY_PREFIX, runKey } from '../../src/store/keys.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { passThrough } from '../../src/store/pass-through.ts';
import { runOfRow } from '../rivals/rival.ts';
import { type Bill, billing, noBill } from '../support/billing.ts';
import { SkippingClock } from '../support/clock.ts';
import { benchWorld, buildOrg } from '../support/world.ts';

export interface SliceOptions {
  orgs: number;
  /** Of each org before it begins. */
  rows: number;
  /** Of each org and second: creations, starts and ends of runs. */
  transitionsPerSecond: number;
  /** Between two passes. */
  passIntervalMs: number;
  /** Null: every pass folds whatever there is. */
  fold: FoldPolicy | null;
  warmupMs: number;
  windowMs: number;
  /** In the window, spread over it. */
  refreshes: number;
  seed: number;
}

export interface Slice {
  transitions: Counted;
  coldRefreshes: Counted;
  warmRefreshes: Counted;
  /** Looks at one org, those that deferred it too; from finding it to its garbage. Listing the markers is not in it: that is once per pass. */
  folds: Counted;
  /** Orgs that one pass looked at, mean. */
  orgsPerPass: number;
  /** Of them, those that were folded, and those that were deferred. */
  foldedPerPass: number;
  deferredPerPass: number;
  /** Of an org with all its canonical runs, at the end. */
  bytesPerOrg: number;
}

export interface Counted {
  count: number;
  bill: Bill;
}

/** Some orgs of a deployment for a while: the real recorder, compactor and readers, and a bill for each. */
export async function runSlice(options: SliceOptions): Promise<Slice> {
  const { orgs, warmupMs, seed } = options;
  const clock = new SkippingClock({ computing: false });
  const memory = new MemoryStore({ clock });
  const orgIds = Array.from({ length: orgs }, (_, i) => `org-${i}`);
  await build(memory, clock, orgIds, options);

  const bills = { writer: noBill(), compactor: noBill(), cold: noBill(), warm: noBill() };
  const session = openSession(billing(memory, bills.writer), { clock, random: seededRandom(seed) });
  const compactor = await openCompactor(
    openSession(besidesMarkers(memory, billing(memory, bills.compactor)), {
      clock,
      random: seededRandom(seed + 1),
    }),
  );
  const cold = billing(memory, bills.cold);
  const warm = openCatalog(billing(memory, bills.warm), { clock }).org(orgIds[0]!);
  await warm.refresh();
  const workers = orgIds.map((orgId, i) => new Worker(session, orgId, seededRandom(seed * 97 + i)));
  const counts = { transitions: 0, passes: 0, visits: 0, folded: 0, deferred: 0, cold: 0, warm: 0 };
  const random = seededRandom(seed + 2);

  const actions = {
    async transition() {
      await workers[Math.floor(uniform(random) * orgs)]!.step(clock.now());
      counts.transitions++;
    },
    async pass() {
      const results = await compactPass(compactor, { fold: options.fold ?? undefined });
      counts.passes++;
      counts.visits += results.length;
      for (const { outcome } of results) {
        if (outcome === 'committed') counts.folded++;
        if (outcome === 'deferred') counts.deferred++;
      }
    },
    async refresh() {
      await openCatalog(cold, { clock })
        .org(orgIds[counts.cold++ % orgs]!)
        .refresh();
      await warm.refresh();
      counts.warm++;
    },
  };
  const agenda = agendaOf(options, random);
  const began = clock.monotonic();
  let opened = false;
  for (const { at, what } of agenda) {
    if (!opened && at >= warmupMs) {
      opened = true;
      for (const bill of Object.values(bills)) Object.assign(bill, noBill());
      for (const name of Object.keys(counts) as (keyof typeof counts)[]) counts[name] = 0;
    }
    clock.skip(Math.max(0, began + at - clock.monotonic()));
    await actions[what]();
  }
  await session.close();
  return {
    transitions: { count: counts.transitions, bill: bills.writer },
    coldRefreshes: { count: counts.cold, bill: bills.cold },
    warmRefreshes: { count: counts.warm, bill: bills.warm },
    folds: { count: counts.visits, bill: bills.compactor },
    orgsPerPass: counts.visits / counts.passes,
    foldedPerPass: counts.folded / counts.passes,
    deferredPerPass: counts.deferred / counts.passes,
    bytesPerOrg: (await bytesOf(memory)) / orgs,
  };
}

type Action = 'transition' | 'pass' | 'refresh';

/** Transitions at random times, passes and refreshes at even ones. */
function agendaOf(options: SliceOptions, random: Random): { at: number; what: Action }[] {
  const { orgs, transitionsPerSecond, passIntervalMs, warmupMs, windowMs, refreshes } = options;
  const endMs = warmupMs + windowMs;
  const agenda: { at: number; what: Action }[] = [];
  const meanMs = 1_000 / (transitionsPerSecond * orgs);
  for (let at = 0; at < endMs; at += -Math.log(1 - uniform(random)) * meanMs) {
    agenda.push({ at, what: 'transition' });
  }
  for (let at = passIntervalMs; at < endMs; at += passIntervalMs) agenda.push({ at, what: 'pass' });
  for (let i = 0; i < refreshes; i++) {
    agenda.push({ at: warmupMs + ((i + 0.5) / refreshes) * windowMs, what: 'refresh' });
  }
  return agenda.sort((a, b) => a.at - b.at);
}

/** Takes one run after the other through its life. */
class Worker {
  readonly #session: Session;
  readonly #orgId: string;
  readonly #random: Random;
  #step = 0;
  #runId = '';

  constructor(session: Session, orgId: string, random: Random) {
    this.#session = session;
    this.#orgId = orgId;
    this.#random = random;
  }

  async step(now: number): Promise<void> {
    const { recorder } = this.#session;
    const at = this.#step++ % 3;
    if (at === 0) {
      this.#runId = uuidv7(now, this.#random);
      const outputs = [{ namespace: 'warehouse', name: `table-${this.#step % 50}` }];
      await recorder.create(this.#orgId, { run_id: this.#runId, kind: 'transform', outputs });
    } else if (at === 1) await recorder.apply(this.#orgId, this.#runId, { type: 'started', attempt: 1 });
    else await recorder.apply(this.#orgId, this.#runId, { type: 'succeeded', attempt: 1 });
  }
}

async function build(
  memory: MemoryStore,
  clock: SkippingClock,
  orgIds: readonly string[],
  { rows, seed }: SliceOptions,
): Promise<void> {
  const world = await benchWorld(memory, clock, { seed });
  for (const [i, orgId] of orgIds.entries()) {
    await buildOrg(world, { orgId, runs: rows, tables: 50, seed: seed + i });
    const org = await openCatalog(memory, { clock }).org(orgId).refresh();
    for await (const row of org.runs()) await memory.put(runKey(orgId, row.run_id), encodeRun(runOfRow(row)));
  }
}

/** Listing the markers is a pass' own cost, however many orgs it finds: it goes to `free`. */
function besidesMarkers(free: ObjectStore, billed: ObjectStore): ObjectStore {
  return {
    ...passThrough(billed),
    list: (options) => (options.prefix.startsWith(DIRTY_PREFIX) ? free : billed).list(options),
  };
}

async function bytesOf(store: ObjectStore): Promise<number> {
  let bytes = 0;
  let pageToken: string | undefined;
  do {
    const page = await store.list({ prefix: '', pageToken });
    for (const { key, sizeBytes, metadata } of page.items) {
      bytes += key.length + sizeBytes;
      for (const [name, value] of Object.entries(metadata)) bytes += name.length + value.length;
    }
    pageToken = page.next ?? undefined;
  } while (pageToken !== undefined);
  return bytes;
}
