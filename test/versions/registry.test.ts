import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { limits } from '../../src/core/limits.ts';
import { seededRandom, systemRandom } from '../../src/core/random.ts';
import { openFileStore } from '../../src/store/file.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { ABSENT, type ObjectStore } from '../../src/store/object-store.ts';
import { resilient } from '../../src/store/resilient.ts';
import { VersionIndex, type VersionRef, VersionRegistry } from '../../src/versions/index.ts';
import { uploadKey, versionKey } from '../../src/versions/version.ts';
import { FakeClock, START } from '../support/fake-clock.ts';
import { gate, intercept } from '../support/intercept.ts';

const bounds = limits({ attemptsMax: 3, backoffBaseMs: 1, backoffMaxMs: 2, contentionRoundsMax: 4 });
const table = { namespace: 'postgres://host:5432', name: 'a/b..%' };
const ref = (version = 'v1', artifact = 'schema'): VersionRef => ({ table, artifact, version });
const details = { uri: 'gs://elsewhere/v1', metadata: { rows: '7' } };

function setup(store: ObjectStore = new MemoryStore()) {
  const clock = new FakeClock();
  const registryOf = (on: ObjectStore = store) =>
    new VersionRegistry(on, {
      limits: bounds,
      random: systemRandom,
      now: () => clock.now(),
      reservationMs: 60_000,
    });
  return { clock, store, registryOf, registry: registryOf() };
}

async function reserved(registry: VersionRegistry, owner: string, one = ref()) {
  const answer = await registry.reserve('acme', one, { owner });
  if (answer.outcome !== 'reserved') throw new Error(answer.code);
  return answer.reservation;
}

const dir = mkdtempSync(join(tmpdir(), 'runfold-versions-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const stores: [string, () => Promise<ObjectStore>][] = [
  ['memory', async () => new MemoryStore()],
  [
    'a store whose LIST has no metadata',
    async () => new MemoryStore({ capabilities: { listMetadata: false, metadataBytesMax: 2048 } }),
  ],
  ['file', () => openFileStore(join(dir, crypto.randomUUID()), { clock: systemClock, fsync: false })],
];

describe.each(stores)('versions on %s', (_, open) => {
  it('reserve, upload, commit; others are refused all the while, and told by whom', async () => {
    const { registry, store } = setup(await open());
    const reservation = await reserved(registry, 'alice');
    expect(await registry.reserve('acme', ref(), { owner: 'bob' })).toMatchObject({
      outcome: 'refused',
      code: 'VERSION_PUBLISH_IN_PROGRESS',
      holder: { owner: 'alice', since: START, expires_at: START + 60_000 },
    });
    expect(await registry.publish('acme', ref(), details, { owner: 'bob' })).toMatchObject({
      code: 'VERSION_PUBLISH_IN_PROGRESS',
    });
    expect(await registry.published('acme')).toEqual([]);
    await store.put(reservation.uploadKey, new Uint8Array(3), { ifGeneration: ABSENT });
    const published = {
      outcome: 'published',
      version: { ...ref(), owner: 'alice', committed_at: START, ...details },
    };
    expect(await registry.commit('acme', reservation, details)).toEqual(published);
    // A repeat, after a lost answer, is the same commit.
    expect(await registry.commit('acme', reservation, details)).toEqual(published);
    for (const other of [
      { ...details, uri: 'other' },
      { ...details, metadata: { other: 'x' } },
    ]) {
      expect(await registry.commit('acme', reservation, other)).toMatchObject({
        outcome: 'refused',
        code: 'VERSION_ALREADY_EXISTS',
        message: expect.stringContaining('was published already'),
      });
    }
    for (const again of [
      registry.reserve('acme', ref(), { owner: 'bob' }),
      registry.publish('acme', ref(), details, { owner: 'alice' }),
    ]) {
      expect(await again).toMatchObject({
        code: 'VERSION_ALREADY_EXISTS',
        holder: { owner: 'alice', expires_at: null },
      });
    }
    expect(await registry.published('acme')).toEqual([published.version]);
    expect(await registry.published('beta')).toEqual([]);
    expect(await registry.publish('beta', ref(), details, { owner: 'bob' })).toMatchObject({
      outcome: 'published',
    });
  });

  it('of many writers that publish one version exactly one does', async () => {
    const { store, registryOf } = setup(await open());
    const answers = await Promise.all(
      Array.from({ length: 10 }, async (_, i) => {
        const registry = registryOf();
        if (i % 2 === 0) return registry.publish('acme', ref(), { uri: `by-${i}` }, { owner: `w${i}` });
        const answer = await registry.reserve('acme', ref(), { owner: `w${i}` });
        return answer.outcome === 'reserved'
          ? registry.commit('acme', answer.reservation, { uri: `by-${i}` })
          : answer;
      }),
    );
    const winners = answers.filter(({ outcome }) => outcome === 'published');
    expect(winners).toHaveLength(1);
    expect(await registryOf(store).published('acme')).toEqual(
      winners.map((one) => (one as { version: unknown }).version),
    );
  });
});

describe('a repeat after a lost answer', () => {
  it('is answered like the first call by its token; another one is refused', async () => {
    const { registry, clock } = setup();
    const [token, other] = [crypto.randomUUID(), crypto.randomUUID()];
    const publish = (one: string) => registry.publish('acme', ref(), details, { owner: 'alice', token: one });
    const first = await publish(token);
    expect(first).toMatchObject({ outcome: 'published', version: { committed_at: START } });
    await clock.advance(10);
    expect(await publish(token)).toEqual(first);
    expect(await publish(other)).toMatchObject({ code: 'VERSION_ALREADY_EXISTS' });

    const reserve = (one: string) => registry.reserve('acme', ref('v2'), { owner: 'alice', token: one });
    const held = await reserve(token);
    await clock.advance(10);
    expect(await reserve(token)).toEqual(held);
    expect(await reserve(other)).toMatchObject({ code: 'VERSION_PUBLISH_IN_PROGRESS' });
    await clock.advance(60_000);
    expect(await reserve(token)).toMatchObject({ reservation: { token, expires_at: START + 120_020 } });
    expect(await registry.publish('acme', ref('v2'), details, { owner: 'alice', token })).toMatchObject({
      outcome: 'published',
      version: { uri: details.uri },
    });
    await expect(publish('../short/but/wrong')).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });
});

describe('reservations', () => {
  it('one that expired may be taken over; its owner can then not commit, nor meet the other’s upload', async () => {
    const { registry, clock } = setup();
    const slow = await reserved(registry, 'slow');
    await clock.advance(60_001);
    const quick = await reserved(registry, 'quick');
    expect(quick.uploadKey).not.toBe(slow.uploadKey);
    expect(await registry.commit('acme', slow, details)).toMatchObject({
      code: 'VERSION_RESERVATION_LOST',
      holder: { owner: 'quick' },
    });
    expect(await registry.commit('acme', quick, details)).toMatchObject({ outcome: 'published' });
    expect(await registry.commit('acme', slow, details)).toMatchObject({ code: 'VERSION_RESERVATION_LOST' });
    expect(await registry.published('acme')).toMatchObject([{ owner: 'quick' }]);
  });

  it('one that expired and was not taken over still commits: the token counts, not the time', async () => {
    const { registry, clock } = setup();
    const slow = await reserved(registry, 'slow');
    await clock.advance(3_600_000);
    expect(await registry.commit('acme', slow, details)).toMatchObject({ outcome: 'published' });
  });

  it('a takeover at the very moment of the commit: one of them wins, and the other is told', async () => {
    const { registryOf, store, clock } = setup();
    const slow = await reserved(registryOf(), 'slow');
    await clock.advance(60_001);
    let planted = false;
    const racing = intercept(store, async (call, go) => {
      if (call.operation === 'put' && !planted) {
        planted = true;
        await reserved(registryOf(), 'quick');
      }
      return go();
    });
    expect(await registryOf(racing).commit('acme', slow, details)).toMatchObject({
      code: 'VERSION_RESERVATION_LOST',
    });
    expect(planted).toBe(true);
  });

  it('released, the name is free at once; the released token is worth nothing', async () => {
    const { registry } = setup();
    const first = await reserved(registry, 'first');
    await registry.release('acme', first);
    const second = await reserved(registry, 'second');
    await registry.release('acme', first);
    expect(await registry.commit('acme', first, details)).toMatchObject({ code: 'VERSION_RESERVATION_LOST' });
    expect(await registry.commit('acme', second, details)).toMatchObject({ outcome: 'published' });
    await registry.release('acme', second);
    expect(await registry.published('acme')).toHaveLength(1);
  });

  it.each(['before', 'after'])('an answer lost %s the write is settled', async (loss) => {
    const memory = new MemoryStore();
    let losing = 0;
    const lossy = intercept(memory, async (call, go) => {
      if (call.operation !== 'put' || losing-- <= 0) return go();
      if (loss === 'after') await go();
      return { outcome: 'unknown', cause: new Error('reset') };
    });
    const store = resilient(lossy, { clock: systemClock, random: seededRandom(1), limits: bounds });
    const { registry } = setup(store);
    losing = 1;
    const reservation = await reserved(registry, 'alice');
    losing = 1;
    expect(await registry.commit('acme', reservation, details)).toMatchObject({ outcome: 'published' });
    losing = 3;
    const answer = await registry.publish('acme', ref('v2'), details, { owner: 'alice' });
    expect(answer).toMatchObject({ outcome: 'published' });
    expect(await registry.published('acme')).toHaveLength(2);
  });

  it('names that are none are refused, and no two names share a key', async () => {
    const { registry } = setup();
    const bad = [
      { ...ref(), version: '' },
      { ...ref(), table: { namespace: '', name: '' } },
      ref('x'.repeat(600)),
      ref('\ud800'),
    ];
    for (const one of bad)
      await expect(registry.reserve('acme', one, { owner: 'a' })).rejects.toMatchObject({
        code: 'INVALID_INPUT',
      });
    const odd = ['..', '.', 'a/b', 'a%2Fb', 'a', 'A', 'a.json', '=a'];
    const keys = odd.flatMap((version) =>
      odd.map((artifact) => versionKey('acme', { ...ref(version), artifact })),
    );
    expect(new Set(keys).size).toBe(keys.length);
    expect(uploadKey('acme', ref('..', '.'), 't').split('/')).not.toEqual(expect.arrayContaining(['..']));
    const long = {
      table: { namespace: 'é'.repeat(512), name: 'ü'.repeat(512) },
      artifact: 'x'.repeat(512),
      version: 'v',
    };
    expect(uploadKey('a'.repeat(128), long, 't'.repeat(32)).length).toBeLessThan(700);
    expect(await registry.publish('acme', long, details, { owner: 'w' })).toMatchObject({ version: long });
  });
});

describe('the index', () => {
  it('hydrates all committed versions in one request', async () => {
    const { store, registry, registryOf } = setup();
    for (let i = 0; i < 30; i++)
      await registry.publish('acme', ref(`v${i}`, `a${i % 3}`), details, { owner: 'w' });
    await reserved(registry, 'busy', ref('v99'));
    let requests = 0;
    const counted = intercept(store, (_, go) => {
      requests++;
      return go();
    });
    const index = new VersionIndex(registryOf(counted), 'acme');
    await index.refresh();
    expect(requests).toBe(1);
    expect(index.size).toBe(30);
    expect(index.list({ table, artifact: 'a1' })).toHaveLength(10);
    expect(index.get(ref('v99'))).toBeNull();
  });

  it('sees its own publish at once, and a refresh that was in flight takes it not away', async () => {
    const { store, registry, registryOf } = setup();
    await registry.publish('acme', ref('v1'), details, { owner: 'w' });
    const hold = gate();
    const slow = intercept(store, async (call, go) => {
      const answer = await go();
      if (call.operation === 'list') await hold.opened;
      return answer;
    });
    const index = new VersionIndex(registryOf(slow), 'acme');
    const stale = index.refresh();
    await new Promise((resolve) => setImmediate(resolve));
    await index.publish(ref('v2'), details, { owner: 'me' });
    expect(index.get(ref('v2'))).toMatchObject({ owner: 'me' });
    hold.open();
    await stale;
    expect(index.size).toBe(2);
    expect(index.get(ref('v2'))).toMatchObject({ owner: 'me' });
    expect(index.latest(ref())).toMatchObject({ version: 'v2' });
  });

  it('a refresh that is asked for while one runs looks again', async () => {
    const { store, registry, registryOf } = setup();
    const hold = gate();
    let lists = 0;
    const slow = intercept(store, async (call, go) => {
      const answer = await go();
      if (call.operation === 'list' && lists++ === 0) await hold.opened;
      return answer;
    });
    const index = new VersionIndex(registryOf(slow), 'acme');
    const first = index.refresh();
    await new Promise((resolve) => setImmediate(resolve));
    await registry.publish('acme', ref(), details, { owner: 'other' });
    const second = index.refresh();
    hold.open();
    await Promise.all([first, second]);
    expect(index.size).toBe(1);
    expect(lists).toBe(2);
  });

  it('who gives up a refresh takes it from nobody who shares it', async () => {
    const { registry, registryOf } = setup();
    await registry.publish('acme', ref(), details, { owner: 'w' });
    const index = new VersionIndex(registryOf(), 'acme');
    const impatient = new AbortController();
    const first = index.refresh(impatient.signal);
    const second = index.refresh();
    impatient.abort();
    await expect(first).rejects.toMatchObject({ code: 'CANCELLED' });
    await second;
    expect(index.size).toBe(1);
  });

  it('a listing that was spoilt on the way is read from the object (law 8)', async () => {
    const { store, registry, registryOf } = setup();
    await registry.publish('acme', ref(), details, { owner: 'w' });
    const spoilt = intercept(store, async (call, go) => {
      const answer = (await go()) as { items: { metadata: Record<string, string> }[] };
      if (call.operation !== 'list') return answer;
      const flip = (text: string) => `${text.slice(0, 80)}${text[80] === 'A' ? 'B' : 'A'}${text.slice(81)}`;
      return {
        ...answer,
        items: answer.items.map((item) => ({
          ...item,
          metadata: Object.fromEntries(
            Object.entries(item.metadata).map(([name, text]) => [name, flip(text)]),
          ),
        })),
      };
    });
    expect(await registryOf(spoilt).published('acme')).toMatchObject([{ ...ref(), owner: 'w' }]);
  });
});
