import { beforeAll, describe, expect, it } from 'vitest';
import type { OrgCatalog, OrgSnapshot } from '../../src/catalog/catalog.ts';
import { ORG } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';

describe('what a reader cannot have meant is refused, with the field in the message', () => {
  let world: Awaited<ReturnType<typeof fakeWorld>>;
  let org: OrgCatalog;
  let snapshot: OrgSnapshot;
  beforeAll(async () => {
    world = await fakeWorld();
    await world.session.recorder.create(ORG, { run_id: 'a', outputs: [{ namespace: 'db', name: 'a' }] });
    await world.compact();
    org = await world.read();
    snapshot = await world.session.catalog.open(ORG, { version: 1 });
  });
  const refused = (field: RegExp) =>
    expect.objectContaining({ code: 'INVALID_INPUT', message: expect.stringMatching(field) });

  it.each<[filter: unknown, field: RegExp]>([
    [{ since: '2026-01-01' }, /since: must be a time in ms/],
    [{ since: Number.NaN }, /since: must be a time/],
    [{ until: Number.POSITIVE_INFINITY }, /until/],
    [{ status: 'BOGUS' }, /status: must be one or a list of .*QUEUED/],
    [{ status: ['QUEUED', 'BOGUS'] }, /status/],
    [{ limit: Number.NaN }, /limit: must be a whole number/],
    [{ limit: -1 }, /limit: must be a whole number, 0 or more/],
    [{ limit: 1.5 }, /limit: must be a whole number/],
    [{ table: 'rare' }, /table: must be an object with namespace, name, or both/],
    [{ table: { nmae: 'rare' } }, /table: must be an object with namespace, name, or both/],
    [{ tabel: { name: 'rare' } }, /tabel/],
    [{ queue: null }, /queue: must be a text/],
  ])('runs(%j)', (filter, field) => {
    expect(() => org.runs(filter as object)).toThrow(refused(field));
    expect(() => snapshot.runs(filter as object)).toThrow(refused(field));
  });

  it('the other questions', async () => {
    const table = { namespace: '', name: 'a' };
    const no = undefined as never;
    expect(() => org.runs({}, { singal: 1 } as object)).toThrow(refused(/singal/));
    expect(() => org.active({ queu: 'a' } as object)).toThrow(refused(/queu/));
    expect(() => org.lineage({ table: 'a' as never })).toThrow(refused(/table: must be/));
    expect(() => org.lineage({ table, depth: 0.5 })).toThrow(refused(/depth/));
    expect(() => org.lineage({ table, direction: 'up' as never })).toThrow(
      refused(/direction: must be upstream/),
    );
    await expect(org.latestOf(no)).rejects.toEqual(refused(/reference id/));
    await expect(org.latestOf('r', { status: 'BOGUS' as never })).rejects.toEqual(refused(/status/));
    await expect(org.refresh({ maxAgeMs: Number.NaN })).rejects.toEqual(
      refused(/maxAgeMs: must be a duration/),
    );
    await expect(org.refresh({ maxAge: 5 } as object)).rejects.toEqual(refused(/maxAge/));
    const open = (query: object) => world.session.catalog.open(ORG, query as { version: number });
    await expect(open({})).rejects.toEqual(refused(/either { version } or { asOf }/));
    await expect(open({ asof: 5 })).rejects.toEqual(refused(/either/));
    await expect(open({ version: 1, asOf: 5 })).rejects.toEqual(refused(/either/));
    await expect(open({ version: 1.5 })).rejects.toEqual(refused(/version/));
    await expect(open({ asOf: world.clock.now() + 60_000 })).rejects.toEqual(refused(/future/));
  });

  it('what is right is answered', async () => {
    await org.refresh({ maxAgeMs: Number.POSITIVE_INFINITY });
    const of = async (filter: Parameters<OrgCatalog['runs']>[0]) => {
      let found = 0;
      for await (const _ of org.runs(filter)) found++;
      return found;
    };
    expect(await of({ status: ['QUEUED'], since: 0, until: world.clock.now() + 1, limit: 5 })).toBe(1);
    expect(await of({ table: { namespace: undefined, name: undefined }, limit: undefined })).toBe(1);
    expect(await of({ table: org.tables()[0]!, limit: 1 })).toBe(1);
    expect(await of({ limit: 0 })).toBe(0);
    await expect(world.session.catalog.open(ORG, { asOf: world.clock.now() })).resolves.toBeDefined();
  });

  it('an iteration that is aborted ends as cancelled', async () => {
    const caller = new AbortController();
    const runs = org.runs({}, { signal: caller.signal });
    caller.abort();
    await expect(runs.next()).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});
