import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Contract, ContractOptions, OpenedStore } from './contract-kit.ts';
import { describeLists } from './contract-list.ts';
import { describeModel } from './contract-model.ts';
import { describeReads } from './contract-reads.ts';
import { describeDeletes, describeWrites } from './contract-writes.ts';

export type { ContractOptions, OpenedStore } from './contract-kit.ts';

/**
 * The contract of the ObjectStore port, for every adapter and wrapper. `open` is called once; the store may
 * hold other objects, because all keys live under a random prefix.
 */
export function describeStore(
  name: string,
  open: () => Promise<OpenedStore>,
  options: ContractOptions,
): void {
  describe(`object store contract: ${name}`, () => {
    let opened: OpenedStore | undefined;
    let tests = 0;
    const names = new Set<string>();
    const root = `contract-${randomUUID()}`;
    const contract: Contract = {
      get store() {
        return opened!.store;
      },
      options: {
        except: {},
        pagingObjects: 1_050,
        modelRuns: 25,
        getCreatedAtMs: 1,
        clockSkewMsMax: 120_000,
        ...options,
      },
      prefix: () => `${root}/${tests++}/`,
      test(title, fn, needs) {
        names.add(title);
        const reason =
          options.except?.[title] ??
          (needs !== undefined && !options.capabilities[needs] ? `no ${needs}` : undefined);
        if (reason === undefined) it(title, fn);
        else it.skip(`${title} [skipped: ${reason}]`, fn);
      },
    };

    beforeAll(async () => {
      opened = await open();
    });
    afterAll(async () => {
      await opened?.close();
    });

    contract.test('states its capabilities', async () => {
      expect(contract.store.capabilities).toEqual(options.capabilities);
    });
    describeReads(contract);
    describeWrites(contract);
    describeDeletes(contract);
    describeLists(contract);
    describeModel(contract);

    it('exceptions name tests that exist', () => {
      expect(Object.keys(options.except ?? {}).filter((title) => !names.has(title))).toEqual([]);
    });
  });
}
