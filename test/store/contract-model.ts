import fc from 'fast-check';
import { expect } from 'vitest';
import { ABSENT, type ObjectStore, type PutOptions } from '../../src/store/object-store.ts';
import { type Contract, text } from './contract-kit.ts';
import { DELIMITER_PAGES, listPages } from './contract-list.ts';

const names = ['a-b', 'a.b/c', 'a/c', 'a/d/e', 'a0', 'b', 'B/b'] as const;

type Precondition = 'absent' | 'current' | 'stale' | 'none';
type Op =
  | { op: 'put'; name: string; body: string; when: Precondition }
  | { op: 'delete'; name: string; when: 'current' | 'stale' }
  | { op: 'get'; name: string }
  | {
      op: 'list';
      under: string;
      delimiter: boolean;
      start: string | null;
      end: string | null;
      limit: number;
    };

const name = fc.constantFrom(...names);
const bound = fc.option(fc.constantFrom(...names, 'a', 'a/', 'a.', 'z'));
const op: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('put' as const),
      name,
      body: fc.string({ maxLength: 20 }),
      when: fc.constantFrom<Precondition>('absent', 'current', 'stale', 'none'),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('delete' as const),
      name,
      when: fc.constantFrom<'current' | 'stale'>('current', 'stale'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('get' as const), name }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('list' as const),
      under: fc.constantFrom('', 'a', 'a/', 'a.b/', 'x'),
      delimiter: fc.boolean(),
      start: bound,
      end: bound,
      limit: fc.integer({ min: 1, max: 8 }),
    }),
  },
);

/** One store prefix beside the map that it must equal. */
class Model {
  readonly #store: ObjectStore;
  readonly #prefix: string;
  readonly #conditionalDelete: boolean;
  readonly #delimiterPages: boolean;
  readonly #objects = new Map<string, { body: string; generation: string }>();
  readonly #old = new Map<string, string>();

  constructor(contract: Contract) {
    this.#store = contract.store;
    this.#prefix = contract.prefix();
    this.#conditionalDelete = contract.options.capabilities.conditionalDelete;
    this.#delimiterPages = !(DELIMITER_PAGES in contract.options.except);
  }

  async apply(op: Op): Promise<void> {
    if (op.op === 'put') await this.#put(op);
    else if (op.op === 'delete') await this.#delete(op);
    else if (op.op === 'get') await this.#get(op.name);
    else await this.#list(op);
  }

  async checkAll(): Promise<void> {
    for (const each of names) await this.#get(each);
    await this.#list({ op: 'list', under: '', delimiter: false, start: null, end: null, limit: 1000 });
  }

  async #put({ name: each, body, when }: Op & { op: 'put' }) {
    const found = this.#objects.get(each);
    const old = this.#old.get(each);
    const conditions: Record<Precondition, PutOptions['ifGeneration']> = {
      absent: ABSENT,
      current: found?.generation,
      stale: old,
      none: undefined,
    };
    const ifGeneration = conditions[when];
    const holds =
      ifGeneration === undefined ||
      (ifGeneration === ABSENT ? !found : found !== undefined && ifGeneration === found.generation);
    const put = await this.#store.put(this.#prefix + each, text(body), { ifGeneration });
    expect(put.outcome).toBe(holds ? 'written' : 'conflict');
    if (put.outcome !== 'written') return;
    if (found) this.#old.set(each, found.generation);
    this.#objects.set(each, { body, generation: put.meta.generation });
  }

  async #delete({ name: each, when }: Op & { op: 'delete' }) {
    const found = this.#objects.get(each);
    const old = this.#old.get(each);
    const ifGeneration = when === 'current' ? found?.generation : old;
    if (ifGeneration === undefined) return;
    const holds = found?.generation === ifGeneration;
    if (found && !holds && !this.#conditionalDelete) return;
    const deleted = await this.#store.delete(this.#prefix + each, { ifGeneration });
    expect(deleted.outcome).toBe(!found ? 'absent' : holds ? 'deleted' : 'conflict');
    if (deleted.outcome !== 'deleted') return;
    this.#objects.delete(each);
    this.#old.set(each, ifGeneration);
  }

  async #get(each: string) {
    const found = this.#objects.get(each);
    const got = await this.#store.get(this.#prefix + each);
    expect(got.outcome).toBe(found ? 'found' : 'absent');
    if (got.outcome !== 'found') return;
    expect(got.body).toEqual(text(found!.body));
    expect(got.meta.generation).toBe(found!.generation);
  }

  async #list({ under, delimiter, start, end, limit }: Op & { op: 'list' }) {
    const prefix = this.#prefix + under;
    // Stores differ in which groups they name when bounds cut through one, so bounds go without a delimiter.
    const from = start === null || delimiter ? undefined : this.#prefix + start;
    const to = end === null || delimiter ? undefined : this.#prefix + end;
    const pageMax = delimiter && !this.#delimiterPages ? 1000 : limit;
    const pages = await listPages(this.#store, {
      prefix,
      delimiter: delimiter ? '/' : undefined,
      start: from,
      end: to,
      limit: pageMax,
    });
    const items: string[] = [];
    const groups = new Set<string>();
    for (const key of [...this.#objects.keys()].map((each) => this.#prefix + each).sort()) {
      if (!key.startsWith(prefix)) continue;
      if ((from !== undefined && key < from) || (to !== undefined && key >= to)) continue;
      const cut = delimiter ? key.indexOf('/', prefix.length) : -1;
      if (cut < 0) items.push(key);
      else groups.add(key.slice(0, cut + 1));
    }
    expect(pages.flatMap((page) => page.items.map((item) => item.key))).toEqual(items);
    expect(pages.flatMap((page) => page.prefixes)).toEqual([...groups]);
    for (const page of pages) expect(page.items.length + page.prefixes.length).toBeLessThanOrEqual(pageMax);
  }
}

export function describeModel(contract: Contract): void {
  contract.test('random operations agree with a map', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(op, { maxLength: 40 }), async (ops) => {
        const model = new Model(contract);
        for (const each of ops) await model.apply(each);
        await model.checkAll();
      }),
      { numRuns: contract.options.modelRuns },
    );
  });
}
