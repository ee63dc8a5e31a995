import { InputError } from '../core/errors.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { type OpenStoreOptions, openStore } from '../store/open.ts';

/**
 * Where workers leave the results that runfold may delete: `<url>/<org>/<run>/…`. A URI elsewhere is never touched,
 * and neither is one under another org or run: whoever may register an artifact of a run can have nothing deleted but
 * what lies under that run.
 */
export interface ResultStore {
  /** Without a slash at its end: `gs://bucket/results`. */
  readonly url: string;
  readonly store: ObjectStore;
}

export interface OpenResultsOptions extends OpenStoreOptions {
  /** URLs of the stores that hold runs and catalogs: results must lie apart from them. */
  apartFrom?: readonly string[];
}

/** Throws InputError for a URL that is none, or that overlaps the store of the catalog. No request is made. */
export async function openResults(url: string, options: OpenResultsOptions = {}): Promise<ResultStore> {
  const { apartFrom = [], ...rest } = options;
  const store = await openStore(url, rest);
  const name = plain(store.url);
  const other = apartFrom.map(plain).find((known) => overlap(known, name));
  if (other === undefined || name === 'memory:') return { url: name, store };
  await store.close();
  throw new InputError(`The result store ${name} and the store ${other} overlap.`, {
    hint: 'Give results a bucket, or a prefix or directory beside the store, of their own.',
  });
}

/** The key of the object in the result store that this run's artifact names; null: runfold does not own it. */
export function resultKey(
  { url }: Pick<ResultStore, 'url'>,
  orgId: string,
  runId: string,
  uri: string | null,
): string | null {
  const home = `${url}${url.endsWith(':') ? '' : '/'}`;
  const named = uri === null ? '' : plain(uri);
  if (!named.startsWith(`${home}${orgId}/${runId}/`)) return null;
  const key = named.slice(home.length);
  const isPlain = key.split('/').every((segment) => segment !== '' && segment !== '.' && segment !== '..');
  return isPlain ? key : null;
}

/** `file:///data/` and `file:/data` are the same place. */
function plain(url: string): string {
  return url.replace(/^file:\/\/(?=\/)/, 'file:').replace(/\/+$/, '');
}

function overlap(a: string, b: string): boolean {
  return a === b || a.startsWith(`${b}/`) || b.startsWith(`${a}/`);
}
