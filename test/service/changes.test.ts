import { describe, expect, it } from 'vitest';
import { compactOrg } from '../../compactor/compact.ts';
import { repairOrg } from '../../compactor/repair.ts';
import type { Limits } from '../../src/core/limits.ts';
import { type Random, seededRandom } from '../../src/core/random.ts';
import { uuidv7 } from '../../src/core/uuid.ts';
import { encodeEntry } from '../../src/log/entry.ts';
import { ObjectRunStore } from '../../src/runs/object-run-store.ts';
import { intentOf } from '../../src/runs/record.ts';
import type { ServiceLimits } from '../../src/service/limits.ts';
import { entryKey } from '../../src/store/keys.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { ORG, runOf } from '../support/runs.ts';
import { NOW, RUNS, type Served, serve } from './support.ts';

const MINUTE = 60_000;
/** Small heads, so that folds seal. */
const SEALING = { headRowsMax: 6, sealAgeMs: 60_000, recordAgeMaxMs: 1_000 };
const CHANGES = `/v1/orgs/${ORG}/changes`;

/** Replicas on one store, whose time the test moves. */
class Fleet {
  readonly clock = new FakeClock();
  readonly store = new MemoryStore({ clock: this.clock });
  readonly replicas: Served[] = [];
  readonly #limits: Partial<Limits>;
  readonly #service: Partial<ServiceLimits>;
  #seed: number;

  private constructor(seed: number, limits: Partial<Limits>, service: Partial<ServiceLimits>) {
    this.#seed = seed * 100;
    this.#limits = limits;
    this.#service = service;
  }

  static async of(
    size: number,
    {
      seed = 1,
      limits = {},
      service = {},
    }: { seed?: number; limits?: Partial<Limits>; service?: Partial<ServiceLimits> } = {},
  ): Promise<Fleet> {
    const fleet = new Fleet(seed, limits, service);
    for (let i = 0; i < size; i++) await fleet.restart(i);
    return fleet;
  }

  /** A process that knows nothing takes the place of that one. */
  async restart(i: number): Promise<void> {
    const seed = ++this.#seed;
    this.replicas[i] = await serve(this.#service, {
      store: this.store,
      clock: this.clock,
      seed,
      world: { clock: this.clock, limits: this.#limits },
    });
  }

  get world() {
    return this.replicas[0]!.world;
  }

  fold() {
    return compactOrg(this.world.compactor, ORG);
  }

  async changes(replica: number, cursor: string) {
    return this.replicas[replica]!.json('GET', `${CHANGES}?cursor=${cursor}`);
  }

  async start(replica = 0): Promise<string> {
    return (await this.replicas[replica]!.json('GET', CHANGES)).body.cursor;
  }

  async ids(replica: number, cursor: string): Promise<string[]> {
    const { status, body } = await this.changes(replica, cursor);
    if (status !== 200) return [`${body.code}`];
    return body.changes.map((change: { run_id: string; run: object | null }) =>
      change.run === null ? `-${change.run_id}` : change.run_id,
    );
  }
}

describe('a cursor of changes goes through every replica', () => {
  it('exactly, while the log has all of it: what was seen at its boundary is not told again', async () => {
    const fleet = await Fleet.of(2);
    const { recorder } = fleet.world.session;
    for (let i = 0; i < 5; i++) await recorder.create(ORG, { run_id: `old-${i}` });
    const cursor = await fleet.start(0);
    expect(await fleet.ids(1, cursor)).toEqual([]);
    await recorder.create(ORG, { run_id: 'new' });
    await recorder.apply(ORG, 'old-3', { type: 'cancel' });
    expect(await fleet.ids(1, cursor)).toEqual(['new', 'old-3']);
    expect(await fleet.ids(0, cursor)).toEqual(expect.arrayContaining(['new', 'old-3']));
    // Back and forth: nothing comes twice, nothing is missed.
    let at = (await fleet.changes(1, cursor)).body.cursor;
    for (let i = 0; i < 6; i++) {
      await recorder.create(ORG, { run_id: `turn-${i}` });
      const { body } = await fleet.changes(i % 2, at);
      expect(body.changes.map(({ run_id }: { run_id: string }) => run_id)).toEqual([`turn-${i}`]);
      at = body.cursor;
    }
  });

  it('and waits there, by long poll', async () => {
    const fleet = await Fleet.of(2);
    const cursor = await fleet.start(0);
    const waiting = fleet.replicas[1]!.json('GET', `${CHANGES}?cursor=${cursor}&wait_ms=20000`);
    await fleet.clock.advance(1_500);
    await fleet.world.session.recorder.create(ORG, { run_id: 'r1' });
    await fleet.clock.advance(3_000);
    expect((await waiting).body.changes).toMatchObject([{ run_id: 'r1' }]);
  });

  it('and in a stream that reconnects elsewhere', async () => {
    const fleet = await Fleet.of(2);
    const { recorder } = fleet.world.session;
    const open = async (replica: number, headers: Record<string, string>) => {
      const response = await fleet.replicas[replica]!.call('GET', CHANGES, {
        headers: { accept: 'text/event-stream', ...headers },
      });
      return response.body!.pipeThrough(new TextDecoderStream()).getReader();
    };
    const first = await open(0, {});
    const id = /^id: (\S+)$/m.exec((await first.read()).value ?? '')![1]!;
    await first.cancel();
    await recorder.create(ORG, { run_id: 'r1' });
    await fleet.fold();
    await fleet.restart(1);
    const second = await open(1, { 'last-event-id': id });
    expect((await second.read()).value).toMatch(/^event: change\ndata: {"run_id":"r1"/);
    await second.cancel();
  });

  it('after folds and collects, from the version it names: nothing is missed, the tail of then may come again', async () => {
    const fleet = await Fleet.of(2);
    const { recorder } = fleet.world.session;
    await recorder.create(ORG, { run_id: 'folded' });
    await fleet.fold();
    await recorder.create(ORG, { run_id: 'in-the-tail' });
    await recorder.create(ORG, { run_id: 'deleted' });
    await recorder.apply(ORG, 'deleted', { type: 'cancel' });
    const cursor = await fleet.start(0);
    await recorder.create(ORG, { run_id: 'after' });
    await recorder.apply(ORG, 'deleted', { type: 'delete' });
    for (let i = 0; i < 3; i++) {
      await fleet.fold();
      await fleet.clock.advance(3 * MINUTE);
    }
    await fleet.restart(0);
    for (const replica of [0, 1]) {
      expect(await fleet.ids(replica, cursor)).toEqual(['after', '-deleted', 'in-the-tail']);
    }
    // The cursor that came with it is of now: nothing again.
    const { body } = await fleet.changes(1, cursor);
    expect(await fleet.ids(0, body.cursor)).toEqual([]);
  });

  it('until the version it names is collected: 410, and what to do', async () => {
    const fleet = await Fleet.of(2);
    const { recorder } = fleet.world.session;
    await recorder.create(ORG, { run_id: 'r1' });
    await fleet.fold();
    const cursor = await fleet.start(0);
    for (let i = 0; i < 4; i++) {
      await recorder.create(ORG, { run_id: `later-${i}` });
      await fleet.fold();
      await fleet.clock.advance(61 * MINUTE);
    }
    const { status, body } = await fleet.changes(1, cursor);
    expect({ status, ...body }).toMatchObject({
      status: 410,
      code: 'CURSOR_EXPIRED',
      hint: expect.stringContaining('read the lists again'),
    });
  });

  it('in pages by run id, while everything changes on', async () => {
    const fleet = await Fleet.of(2, { service: { pageLimitMax: 4 } });
    const { recorder } = fleet.world.session;
    const cursor = await fleet.start(0);
    for (let i = 0; i < 10; i++) await recorder.create(ORG, { run_id: `r${i}` });
    const seen = new Map<string, number>();
    let at = cursor;
    for (let page = 0; page < 12; page++) {
      const { body } = await fleet.changes(page % 2, at);
      expect(body.changes.length).toBeLessThanOrEqual(4);
      for (const { run_id, run } of body.changes) seen.set(run_id, run.revision);
      at = body.cursor;
      // Behind the page that was told, before the one that comes.
      if (page === 1) await recorder.apply(ORG, 'r0', { type: 'cancel' });
      if (page === 1) await fleet.fold();
      if (page === 2) await recorder.create(ORG, { run_id: 'r00' });
      if (body.changes.length === 0 && !body.more) break;
    }
    expect([...seen.keys()].sort()).toEqual([
      'r0',
      'r00',
      ...Array.from({ length: 9 }, (_, i) => `r${i + 1}`),
    ]);
    expect(seen.get('r0')).toBe(2);
  });

  it('a page that this process cut short is whole elsewhere', async () => {
    const fleet = await Fleet.of(2, { service: { pageLimitMax: 3 } });
    const { recorder } = fleet.world.session;
    const cursor = await fleet.start(0);
    for (let i = 0; i < 8; i++) await recorder.create(ORG, { run_id: `r${i}` });
    const first = await fleet.changes(0, cursor);
    expect(first.body).toMatchObject({ more: true });
    const seen = new Set(first.body.changes.map(({ run_id }: { run_id: string }) => run_id));
    let at = first.body.cursor;
    for (let page = 0; page < 10; page++) {
      const { body } = await fleet.changes(1, at);
      for (const { run_id } of body.changes) seen.add(run_id);
      at = body.cursor;
    }
    expect(seen.size).toBe(8);
  });

  it('a run that was announced before it and written after it, without a record, is told', async () => {
    const fleet = await Fleet.of(2);
    const { store, clock, world } = fleet;
    const run = runOf({ run_id: 'lost-put', created_at: clock.now(), updated_at: clock.now() });
    const key = entryKey(ORG, uuidv7(clock.now(), seededRandom(5)));
    await store.put(key, encodeEntry({ org_id: ORG, records: [intentOf(run)] }));
    const cursor = await fleet.start(0);
    await clock.advance(40_000);
    await new ObjectRunStore(store, world.session.limits).create(run);
    expect(await fleet.ids(1, cursor)).toEqual(['lost-put']);
    await fleet.fold();
    await fleet.restart(1);
    expect(await fleet.ids(1, cursor)).toEqual(['lost-put']);
  });

  it('rows that a repair brings without any entry are told', async () => {
    const fleet = await Fleet.of(2);
    const { store, world } = fleet;
    await world.session.recorder.create(ORG, { run_id: 'r1' });
    await fleet.fold();
    const cursor = await fleet.start(0);
    const ended = runOf({ run_id: 'never-recorded', status: 'SUCCEEDED', finished_at: fleet.clock.now() });
    await new ObjectRunStore(store, world.session.limits).create(ended);
    await repairOrg(world.compactor, ORG);
    await fleet.restart(1);
    expect(await fleet.ids(1, cursor)).toEqual(['never-recorded']);
  });

  it.each([
    ['goes on where sealed rows had been seen', false],
    ['ends where a row was sealed unseen', true],
  ])('%s', async (_, unseen) => {
    const fleet = await Fleet.of(2, { limits: SEALING });
    const { recorder } = fleet.world.session;
    const end = async (run_id: string) => {
      await recorder.create(ORG, { run_id });
      await recorder.apply(ORG, run_id, { type: 'cancel' });
    };
    for (let i = 0; i < 10; i++) await end(`old-${i}`);
    await fleet.clock.advance(5 * MINUTE);
    await fleet.fold();
    await fleet.restart(0);
    const cursor = await fleet.start(0);
    for (let i = 0; i < 3; i++) await end(`new-${i}`);
    if (unseen) {
      const at = fleet.clock.now() - 1_000 * MINUTE;
      await recorder.observe(ORG, 'ancient', [{ at, phase: 'success', inputs: [], outputs: [] }]);
    }
    await fleet.clock.advance(5 * MINUTE);
    const { version } = await fleet.fold();
    const parts = (await fleet.world.read()).state.manifest!.parts;
    expect([version, parts.length]).toEqual([2, 2]);
    const expected = unseen ? ['CURSOR_EXPIRED'] : ['new-0', 'new-1', 'new-2'];
    // Also in the process that gave it.
    for (const replica of [1, 0]) expect(await fleet.ids(replica, cursor)).toEqual(expected);
  });

  it('is no use to another org, nor when it was made up', async () => {
    const fleet = await Fleet.of(1);
    await fleet.world.session.recorder.create(ORG, { run_id: 'r1' });
    const forged = (cursor: unknown) => Buffer.from(JSON.stringify([cursor])).toString('base64url');
    const place = { v: 7, w: 'x', at: 5, seen: '', pending: [] };
    for (const [cursor, expected] of [
      [{ k: 'at', feed: '', n: 0, place }, 'CURSOR_EXPIRED'],
      [{ k: 'page', v: 7, w: '', after: 'a', place }, 'CURSOR_EXPIRED'],
      [{ k: 'at', feed: '', n: 0, place: { ...place, at: -1 } }, 'INVALID_INPUT'],
      [{ k: 'at', feed: '', n: 0, place: { ...place, pending: [['../x', 1]], v: 0, w: '' } }, 'r1'],
    ] as const) {
      expect((await fleet.ids(0, forged(cursor)))[0]).toBe(expected);
    }
  });
});

/** Follows changes through whatever replica it meets, as a client does that must not miss one. */
class Follower {
  readonly runs = new Map<string, number>();
  expiries = 0;
  told = 0;
  readonly #fleet: Fleet;
  #cursor: string | null = null;

  constructor(fleet: Fleet) {
    this.#fleet = fleet;
  }

  async step(replica: number): Promise<boolean> {
    if (this.#cursor === null) {
      this.#cursor = await this.#fleet.start(replica);
      this.runs.clear();
      for (const [id, revision] of await listed(this.#fleet.replicas[replica]!)) this.runs.set(id, revision);
      return true;
    }
    const { status, body } = await this.#fleet.changes(replica, this.#cursor);
    if (status === 410) {
      this.expiries++;
      this.#cursor = null;
      return true;
    }
    expect(status).toBe(200);
    for (const { run_id, run } of body.changes) {
      this.told++;
      if (run === null) this.runs.delete(run_id);
      else if ((this.runs.get(run_id) ?? 0) < run.revision) this.runs.set(run_id, run.revision);
    }
    this.#cursor = body.cursor;
    return body.changes.length > 0 || body.more;
  }
}

async function listed(served: Served): Promise<Map<string, number>> {
  const runs = new Map<string, number>();
  for (let cursor = ''; ; ) {
    const { body } = await served.json('GET', `${RUNS}?limit=1000${cursor}`, NOW);
    for (const { run_id, revision } of body.runs) runs.set(run_id, revision);
    if (body.next === null) return runs;
    cursor = `&cursor=${body.next}`;
  }
}

const pick = (random: Random, n: number) => random.u32() % n;

/** One thing that happens to runs or to the fleet; `n` runs exist. */
async function happen(fleet: Fleet, random: Random, n: number): Promise<number> {
  const { recorder } = fleet.world.session;
  const id = `r${pick(random, Math.max(1, n))}`;
  const dice = pick(random, 20);
  if (dice < 7) {
    await recorder.create(ORG, { run_id: `r${n}` });
    return n + 1;
  }
  if (dice < 14 && n > 0) {
    const events = [
      { type: 'started', attempt: 1 },
      { type: 'succeeded', attempt: 1 },
      { type: 'cancel' },
      { type: 'delete' },
    ] as const;
    await recorder.apply(ORG, id, events[pick(random, events.length)]!).catch(() => undefined);
  } else if (dice === 14) {
    // Of long ago: its row goes to history with the next seal, unseen.
    const at = fleet.clock.now() - 1_000 * MINUTE;
    await recorder.observe(ORG, `e${n}-${pick(random, 50)}`, [
      { at, phase: 'success', inputs: [], outputs: [] },
    ]);
  } else if (dice < 17) await fleet.fold();
  else if (dice === 17) await fleet.clock.advance(pick(random, 20) * 10_000);
  else if (dice === 18) await fleet.clock.advance(pick(random, 4) * MINUTE);
  else await fleet.restart(pick(random, fleet.replicas.length));
  return n;
}

describe('a follower misses nothing, whatever happens between its steps', () => {
  it.each([
    ['all in the head', {}],
    ['with seals', SEALING],
  ])('%s', async (_, limits) => {
    let [told, expiries, runs] = [0, 0, 0];
    for (let seed = 1; seed <= 5; seed++) {
      const random = seededRandom(seed);
      const fleet = await Fleet.of(2, { seed, limits, service: { pageLimitMax: 5 } });
      const follower = new Follower(fleet);
      let n = 0;
      for (let step = 0; step < 90; step++) {
        n = await happen(fleet, random, n);
        if (pick(random, 3) === 0) await follower.step(pick(random, 2));
      }
      for (let quiet = 0, step = 0; quiet < 3; step++) {
        expect(step, `seed ${seed} comes to rest`).toBeLessThan(60);
        quiet = (await follower.step(pick(random, 2))) ? 0 : quiet + 1;
      }
      const truth = await listed(fleet.replicas[0]!);
      expect(Object.fromEntries(follower.runs), `seed ${seed}`).toEqual(Object.fromEntries(truth));
      told += follower.told;
      expiries += follower.expiries;
      runs += truth.size;
    }
    expect(runs).toBeGreaterThan(90);
    expect(told).toBeGreaterThan(90);
    // A cursor that always expires would miss nothing either.
    expect(expiries).toBeLessThan(5 * 4);
  });
});
