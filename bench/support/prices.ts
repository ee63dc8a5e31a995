import { join } from 'node:path';
import { z } from 'zod';
import { InputError } from '../../src/core/errors.ts';
import type { Operation } from '../../src/store/latency.ts';
import { readJsonFile } from './json-file.ts';

const price = z.number().nonnegative();

const pricesSchema = z.strictObject({
  name: z.string().min(1),
  /** Where the prices were read, and when: whoever doubts a figure looks there first. */
  source: z.string().min(1),
  date: z.iso.date(),
  currency: z.literal('USD'),
  per_1000_requests: z.strictObject({ get: price, head: price, put: price, delete: price, list: price }),
  per_gib_month: price,
});
/** What a store charges. Bytes between a bucket and machines of its region are taken to be free. */
export type Prices = z.infer<typeof pricesSchema>;

const DEFAULT = join(import.meta.dirname, '../prices.json');

/** The price table of a JSON file, or the one in bench/prices.json. Throws InputError that names file and field. */
export function readPrices(path: string = DEFAULT): Prices {
  const parsed = pricesSchema.safeParse(readJsonFile(path, 'Name a file like bench/prices.json.'));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new InputError(`${path} is no price table: ${issue?.path.join('.')}: ${issue?.message}`, {
    hint: 'Copy bench/prices.json and change it.',
  });
}

/** Of requests, by operation. */
export function dollarsOf(counts: Partial<Record<Operation, number>>, prices: Prices): number {
  return Object.entries(prices.per_1000_requests).reduce(
    (sum, [operation, price]) => sum + ((counts[operation as Operation] ?? 0) * price) / 1_000,
    0,
  );
}
