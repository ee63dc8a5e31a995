import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import * as keys from '../../src/store/keys.ts';
import * as versions from '../../src/versions/version.ts';

/** Keys that the documented table of all keys names. */
const format = readFileSync(new URL('../../docs/FORMAT.md', import.meta.url), 'utf8');
const table = format.split('\n## Keys\n')[1]!.split('\n## ')[0]!;
const documented = [...table.matchAll(/^\| `([^`]+)`/gm)].map((match) => match[1]!);

it('every key that runfold writes is told from those of others', () => {
  const prefixes = [...Object.entries(keys), ...Object.entries(versions)].flatMap(([name, value]) =>
    name.endsWith('_PREFIX') ? [String(value)] : [],
  );
  expect([prefixes.length >= 8, documented.length >= 12]).toEqual([true, true]);
  for (const key of [...prefixes, ...documented, 'catalog/clock', '/Traces/orgs/acme/work.json'])
    expect([key, keys.isOwnKey(key)]).toEqual([key, true]);
  for (const key of ['old/plain.log', 'tracesof/x', 'catalog-logs/x', 'logs/traces/orgs/x', 'traces.log'])
    expect([key, keys.isOwnKey(key)]).toEqual([key, false]);
});
