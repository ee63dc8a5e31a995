import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { limits } from '../../src/core/limits.ts';
import { Recorder } from '../../src/runs/recorder.ts';
import type { Run } from '../../src/runs/run.ts';
import type { RunStore, RunWrite, ScannedRun } from '../../src/runs/run-store.ts';
import { wholeRun as runOf } from './run-store-objects.ts';

/** How the next writes fail: their answer is lost before or after they took effect. */
export type Loss = 'before' | 'after';

export interface OpenedRunStore {
  store: RunStore;
  /** Another process's view of the same runs. The contract closes it. */
  another(): Promise<RunStore>;
  /** The next `count` writes of `store` lose their answer. */
  lose(loss: Loss, count: number): void;
  /** Puts bytes in place of a run that are none. */
  spoil(orgId: string, runId: string): Promise<void>;
  close(): Promise<void>;
}

export interface RunStoreTraits {
  /** `id`: by (org, run id). `key`: by the object's key, in which ids are percent-encoded and end in `.json`. */
  scanOrder: 'id' | 'key';
  /** Whether `close` closes what the runs are in; an object store belongs to whoever opened it. */
  closes: boolean;
  /** Why `remove` cannot be held to its token here (an emulator that ignores the precondition of deletes). */
  unconditionalRemove?: string | undefined;
  /** More than one page of a scan. */
  pageRuns: number;
}

/** The contract of the RunStore port. `open` is called once per test: every test finds no run at all. */
export function describeRunStore(
  name: string,
  open: () => Promise<OpenedRunStore>,
  traits: RunStoreTraits,
): void {
  describe(`run store contract: ${name}`, () => {
    let opened: OpenedRunStore[] = [];
    const fresh = async () => {
      const one = await open();
      opened.push(one);
      return one;
    };
    beforeAll(() => {
      opened = [];
    });
    afterAll(async () => {
      for (const one of opened) await one.close();
    });

    it('a run is read as it was written, unknown fields and all', async () => {
      const { store } = await fresh();
      expect(await store.read('acme', 'r')).toBeNull();
      const run = runOf({
        run_id: 'r',
        payload: {
          target_namespace: null,
          target_table: 'a\u0000\ud800 é 🦆',
          source_type: null,
          'x-y': [1.5, null],
        },
        later: { kept: ['as', { it: 'is' }], big: 2 ** 53 - 1, empty: '' },
      } as Partial<Run>);
      const wrote = written(await store.create(run));
      expect(await store.read('acme', 'r')).toEqual({ run, token: wrote });
      const next = { ...run, revision: 2 };
      const replaced = written(await store.replace(next, wrote));
      expect(await store.read('acme', 'r')).toEqual({ run: next, token: replaced });
    });

    it('of racing creates exactly one is written', async () => {
      const { store, another } = await fresh();
      const other = await another();
      const creates = Array.from({ length: 12 }, (_, i) =>
        (i % 2 === 0 ? store : other).create(runOf({ run_id: 'r', kind: `by-${i}` })),
      );
      const outcomes = (await Promise.all(creates)).map(({ outcome }) => outcome);
      expect(outcomes.filter((outcome) => outcome === 'written')).toHaveLength(1);
      expect(outcomes.filter((outcome) => outcome === 'conflict')).toHaveLength(11);
      const winner = outcomes.indexOf('written');
      expect((await store.read('acme', 'r'))?.run.kind).toBe(`by-${winner}`);
      expect((await other.read('acme', 'r'))?.run.kind).toBe(`by-${winner}`);
      await other.close();
    });

    it('of racing replaces of one state exactly one is written, and nothing is lost', async () => {
      const { store, another } = await fresh();
      const other = await another();
      await store.create(runOf({ run_id: 'r' }));
      let wins = 0;
      const add = async (via: RunStore) => {
        for (let own = 0; own < 5; ) {
          const { run, token } = (await via.read('acme', 'r'))!;
          const { outcome } = await via.replace({ ...run, revision: run.revision + 1 }, token);
          expect(['written', 'conflict']).toContain(outcome);
          if (outcome !== 'written') continue;
          own++;
          wins++;
        }
      };
      await Promise.all([add(store), add(other), add(store)]);
      expect((await store.read('acme', 'r'))?.run.revision).toBe(1 + wins);
      await other.close();
    });

    it('a token names one write, and never comes back', async () => {
      const { store } = await fresh();
      const run = runOf({ run_id: 'r' });
      const first = written(await store.create(run));
      const second = written(await store.replace({ ...run, revision: 2 }, first));
      expect(second).not.toBe(first);
      expect(await store.replace({ ...run, revision: 2 }, first)).toEqual({ outcome: 'conflict' });
      expect((await store.remove('acme', 'r', second)).outcome).toBe('written');
      const again = written(await store.create(run));
      expect(await store.replace({ ...run, revision: 2 }, first)).toEqual({ outcome: 'conflict' });
      expect((await store.read('acme', 'r'))?.token).toBe(again);
    });

    const skipped = traits.unconditionalRemove;
    it.skipIf(skipped)(
      `remove takes away only the state of its token${skipped ? ` [skipped: ${skipped}]` : ''}`,
      async () => {
        const { store } = await fresh();
        const run = runOf({ run_id: 'r' });
        const stale = written(await store.create(run));
        const token = written(await store.replace({ ...run, revision: 2 }, stale));
        expect(await store.remove('acme', 'r', stale)).toEqual({ outcome: 'conflict' });
        expect((await store.read('acme', 'r'))?.token).toBe(token);
      },
    );

    it('what was removed is gone, and stays so', async () => {
      const { store } = await fresh();
      const run = runOf({ run_id: 'r' });
      const token = written(await store.create(run));
      expect(await store.remove('acme', 'r', token)).toEqual({ outcome: 'written', token: null });
      expect(await store.read('acme', 'r')).toBeNull();
      expect(await store.remove('acme', 'r', token)).toEqual({ outcome: 'written', token: null });
      expect(await store.replace(run, token)).toEqual({ outcome: 'conflict' });
      expect(await store.read('acme', 'r')).toBeNull();
    });

    it('orgs do not see each other, however alike their names', async () => {
      const { store } = await fresh();
      const orgs = ['a', 'a-b', 'a.b', 'a:b', 'ab', 'A', 'a_b', 'a~b'];
      for (const org_id of orgs) await store.create(runOf({ org_id, run_id: 'same', kind: org_id }));
      for (const orgId of orgs) {
        expect((await store.read(orgId, 'same'))?.run.kind).toBe(orgId);
        expect(idsOf(await scanned(store, orgId))).toEqual([`${orgId}/same`]);
      }
      const { token } = (await store.read('a', 'same'))!;
      await store.remove('a', 'same', token);
      expect(idsOf(await scanned(store)).sort()).toEqual(
        orgs
          .slice(1)
          .map((org) => `${org}/same`)
          .sort(),
      );
    });

    it(`scans are ascending by ${traits.scanOrder}, an org's runs together`, async () => {
      const { store } = await fresh();
      const ids = ['b', 'a', 'a-b', 'a.b', 'a:b', 'ab', 'B', 'a=', 'a_b', '0'];
      const orgs = ['o', 'o-p', 'o:p', 'op'];
      for (const org_id of orgs) for (const run_id of ids) await store.create(runOf({ org_id, run_id }));
      const found = idsOf(await scanned(store));
      const name = (id: string) => (traits.scanOrder === 'id' ? id : encodeURIComponent(id));
      const [afterOrg, afterRun] = traits.scanOrder === 'id' ? ['\0', ''] : ['/', '.json'];
      const key = (both: string) => {
        const [org = '', run = ''] = both.split('/');
        return `${name(org)}${afterOrg}${name(run)}${afterRun}`;
      };
      expect(found).toHaveLength(orgs.length * ids.length);
      expect(found.map(key)).toEqual(found.map(key).sort());
      const blocks = found.map((both) => both.split('/')[0]).filter((org, i, all) => org !== all[i - 1]);
      expect(blocks).toHaveLength(orgs.length);
    });

    it('a scan over several pages gives every run once, whatever is written meanwhile', async () => {
      const { store } = await fresh();
      const ids = Array.from({ length: traits.pageRuns }, (_, i) => `r${String(i).padStart(5, '0')}`);
      await inTens(ids, (run_id) => store.create(runOf({ run_id })));
      const found: string[] = [];
      for await (const one of store.scan({ orgId: 'acme' })) {
        if (!('run' in one)) throw one.problem;
        found.push(one.run.run_id);
        if (found.length % 100 !== 0) continue;
        const { run, token } = (await store.read('acme', ids[(found.length * 7) % ids.length]!))!;
        await store.replace({ ...run, revision: run.revision + 1 }, token);
        await store.create(runOf({ run_id: `q${found.length}` }));
      }
      expect(found.filter((id) => id.startsWith('r'))).toEqual(ids);
      expect(new Set(found).size).toBe(found.length);
    });

    it('what cannot be read is listed with its key, and the rest goes on', async () => {
      const { store, spoil } = await fresh();
      for (const run_id of ['r1', 'r2', 'r3']) await store.create(runOf({ run_id }));
      await spoil('acme', 'r2');
      const all = await scanned(store, 'acme');
      expect(all.map((one) => ('run' in one ? one.run.run_id : 'problem'))).toEqual(['r1', 'problem', 'r3']);
      expect(all[1]).toMatchObject({ key: expect.stringContaining('r2'), problem: { code: 'CORRUPT' } });
      await expect(store.read('acme', 'r2')).rejects.toMatchObject({ code: 'CORRUPT' });
    });

    it('ids that are none and runs that are too big are refused before anything is sent', async () => {
      const { store } = await fresh();
      const bad = { code: 'INVALID_INPUT' };
      await expect(async () => store.create(runOf({ org_id: 'a/b' }))).rejects.toMatchObject(bad);
      await expect(async () => store.create(runOf({ run_id: '..' }))).rejects.toMatchObject(bad);
      await expect(async () => store.read('', 'r')).rejects.toMatchObject(bad);
      const kind = 'x'.repeat(limits().runBytesMax);
      await expect(async () => store.create(runOf({ kind }))).rejects.toMatchObject({
        code: 'LIMIT_EXCEEDED',
      });
      expect(await scanned(store)).toEqual([]);
    });

    it('an aborted signal stops a call; what a write then did is told truly', async () => {
      const { store } = await fresh();
      const gone = AbortSignal.abort();
      await expect(async () => store.read('acme', 'r', gone)).rejects.toMatchObject({ code: 'CANCELLED' });
      await expect(async () => store.create(runOf(), gone)).rejects.toMatchObject({ code: 'CANCELLED' });
      await expect(async () => scanned(store, 'acme', gone)).rejects.toMatchObject({ code: 'CANCELLED' });
      expect(await store.read('acme', 'run-1')).toBeNull();
      for (let i = 0; i < 8; i++) {
        const stop = new AbortController();
        const creating = store
          .create(runOf({ run_id: `r${i}` }), stop.signal)
          .catch(() => 'nothing' as const);
        if (i > 0) await new Promise((resolve) => setTimeout(resolve, i - 1));
        stop.abort();
        const answer = await creating;
        const there = (await store.read('acme', `r${i}`)) !== null;
        if (answer === 'nothing') expect(there).toBe(false);
        else if (answer.outcome !== 'unknown') expect([answer.outcome, there]).toEqual(['written', true]);
      }
    });

    it.each<Loss>(['before', 'after'])('an answer lost %s a write took effect is settled', async (loss) => {
      const { store, lose } = await fresh();
      const run = runOf({ run_id: 'r' });
      lose(loss, 1);
      const created = written(await store.create(run));
      expect(await store.read('acme', 'r')).toEqual({ run, token: created });
      lose(loss, 1);
      const replaced = written(await store.replace({ ...run, revision: 2 }, created));
      expect((await store.read('acme', 'r'))?.token).toBe(replaced);
      lose(loss, 1);
      expect((await store.remove('acme', 'r', replaced)).outcome).toBe('written');
      expect(await store.read('acme', 'r')).toBeNull();
    });

    it('with every answer lost it says `unknown` or `written`, never `conflict`', async () => {
      const { store, lose } = await fresh();
      lose('after', 1_000);
      const created = await store.create(runOf({ run_id: 'r' }));
      lose('after', 0);
      expect(['unknown', 'written']).toContain(created.outcome);
      expect((await store.read('acme', 'r'))?.run.run_id).toBe('r');
      lose('before', 1_000);
      const nothing = await store.create(runOf({ run_id: 's' })).catch((error) => error);
      lose('before', 0);
      expect(nothing.outcome ?? nothing.code).toMatch(/unknown|STORE_UNAVAILABLE/);
      expect(await store.read('acme', 's')).toBeNull();
    });

    it('a recorder repeats what was lost, and two of them create one run once', async () => {
      const { store, another, lose } = await fresh();
      const other = await another();
      const log = { append: async () => undefined };
      const options = { limits: limits(), now: () => 1_800_000_000_000 };
      const [a, b] = [new Recorder(store, log, options), new Recorder(other, log, options)];
      lose('after', 1);
      const answers = await Promise.allSettled([
        a.create('acme', { run_id: 'r', kind: 'one' }),
        b.create('acme', { run_id: 'r', kind: 'two' }),
      ]);
      const refused = answers.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[];
      expect(refused.map(({ reason }) => reason.code)).toEqual(['RUN_ALREADY_EXISTS']);
      await Promise.all([a, b].map((r) => r.apply('acme', 'r', { type: 'started', attempt: 1 })));
      expect((await store.read('acme', 'r'))?.run).toMatchObject({ status: 'RUNNING', revision: 2 });
      await other.close();
    });

    it('does what a map would do', async () => {
      const { store } = await fresh();
      let test = 0;
      const operation = fc.record({
        what: fc.constantFrom('create', 'replace', 'stale', 'remove', 'read'),
        run_id: fc.constantFrom('x', 'y'),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(operation, { maxLength: 14 }), async (operations) => {
          const org_id = `model-${test++}`;
          const model = new Map<string, { run: Run; token: string }>();
          const tokens: string[] = [];
          for (const [i, { what, run_id }] of operations.entries()) {
            const known = model.get(run_id);
            const run = runOf({ org_id, run_id, kind: `k${i}`, revision: (known?.run.revision ?? 0) + 1 });
            const old = tokens.find((token) => token !== known?.token);
            let answer: RunWrite | null = null;
            let expected = known === undefined ? 'conflict' : 'written';
            if (what === 'create') {
              answer = await store.create(run);
              expected = known === undefined ? 'written' : 'conflict';
            } else if (what === 'replace' && known) answer = await store.replace(run, known.token);
            else if (what === 'stale' && old !== undefined) {
              answer = await store.replace(run, old);
              expected = 'conflict';
            } else if (what === 'remove' && known) answer = await store.remove(org_id, run_id, known.token);
            else expect(await store.read(org_id, run_id)).toEqual(known ?? null);
            if (answer === null) continue;
            expect(answer.outcome).toBe(expected);
            if (answer.outcome !== 'written') continue;
            if (answer.token === null) model.delete(run_id);
            else {
              tokens.push(answer.token);
              model.set(run_id, { run, token: answer.token });
            }
          }
          const shown = (await scanned(store, org_id)).map((one) => ('run' in one ? one.run : one.problem));
          expect(shown).toEqual(['x', 'y'].flatMap((id) => model.get(id)?.run ?? []));
        }),
        { numRuns: 12 },
      );
    });

    if (traits.closes) {
      it('close lets calls in flight end, and refuses later ones', async () => {
        const { another, store } = await fresh();
        const closing = await another();
        const creates = Array.from({ length: 20 }, (_, i) => closing.create(runOf({ run_id: `r${i}` })));
        await closing.close();
        expect((await Promise.all(creates)).map(({ outcome }) => outcome)).toEqual(
          creates.map(() => 'written'),
        );
        await closing.close();
        await expect(async () => closing.read('acme', 'r0')).rejects.toMatchObject({ code: 'STORE_FAILED' });
        await expect(async () => scanned(closing)).rejects.toMatchObject({ code: 'STORE_FAILED' });
        expect(await scanned(store)).toHaveLength(20);
      });
    } else {
      it('close leaves the object store to whoever opened it', async () => {
        const { another } = await fresh();
        const closed = await another();
        await closed.create(runOf());
        await closed.close();
        expect(await closed.read('acme', 'run-1')).not.toBeNull();
      });
    }
  });
}

function written(answer: RunWrite): string {
  if (answer.outcome === 'written' && answer.token !== null) return answer.token;
  throw new Error(`expected written, got ${JSON.stringify(answer)}`);
}

async function scanned(store: RunStore, orgId?: string, signal?: AbortSignal): Promise<ScannedRun[]> {
  const all: ScannedRun[] = [];
  for await (const one of store.scan({ orgId, signal })) all.push(one);
  return all;
}

function idsOf(all: readonly ScannedRun[]): string[] {
  return all.map((one) => ('run' in one ? `${one.run.org_id}/${one.run.run_id}` : `problem ${one.key}`));
}

async function inTens<T>(items: readonly T[], fn: (item: T) => Promise<unknown>): Promise<void> {
  for (let i = 0; i < items.length; i += 10) await Promise.all(items.slice(i, i + 10).map(fn));
}
