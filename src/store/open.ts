import { resolve } from 'node:path';
import { type Clock, systemClock } from '../core/clock.ts';
import { InputError } from '../core/errors.ts';
import { type Limits, limits } from '../core/limits.ts';
import { type Random, systemRandom } from '../core/random.ts';
import { MemoryStore } from './memory.ts';
import type { ObjectStore } from './object-store.ts';
import { type ResilientOptions, resilient } from './resilient.ts';
import { verified } from './verified.ts';

export interface OpenStoreOptions {
  /** Of an emulator: `http://127.0.0.1:4443`. Default: RUNFOLD_GCS_ENDPOINT. */
  endpoint?: string | undefined;
  /** `false`: a file store whose directory is missing is an InputError, and nothing is made. Default true. */
  create?: boolean | undefined;
  clock?: Clock;
  random?: Random;
  limits?: Partial<Limits>;
  onRetry?: ResilientOptions['onRetry'];
  /** Goes around the adapter, below the retries: metrics, latency, faults. */
  wrap?: (store: ObjectStore) => ObjectStore;
}

const HINT = 'Use memory:, file:DIR or gs://bucket[/prefix].';

/**
 * Opens a store by URL, with deadlines, retries and checksums around it. The adapter's code, and any cloud SDK,
 * loads only here. `file:DIR?fsync=off` gives up durability against power loss (not against `kill -9`).
 */
export async function openStore(url: string, options: OpenStoreOptions = {}): Promise<ObjectStore> {
  const clock = options.clock ?? systemClock;
  const { create = true, endpoint = process.env['RUNFOLD_GCS_ENDPOINT'] } = options;
  const adapter = await openAdapter(url, { clock, create, endpoint });
  return resilient(verified((options.wrap ?? ((store) => store))(adapter)), {
    clock,
    random: options.random ?? systemRandom,
    limits: limits(options.limits),
    ...(options.onRetry ? { onRetry: options.onRetry } : {}),
  });
}

async function openAdapter(
  url: string,
  { clock, create, endpoint }: { clock: Clock; create: boolean; endpoint: string | undefined },
): Promise<ObjectStore> {
  const scheme = /^([a-z][a-z0-9]*):/.exec(url)?.[1];
  if (scheme === 'memory') return new MemoryStore({ clock });
  if (scheme === 'file') {
    const { openFileStore } = await import('./file.ts');
    const { dir, fsync } = parseFileUrl(url);
    return openFileStore(dir, { clock, fsync, create });
  }
  if (scheme === 'gs') {
    const match = /^gs:\/\/([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:\/(.*))?$/.exec(url);
    if (match === null) throw new InputError(`${url} is not a bucket.`, { hint: HINT });
    const { openGcsStore } = await import('./gcs.ts');
    return openGcsStore({ bucket: match[1]!, prefix: match[2] ?? '', endpoint: endpoint || undefined });
  }
  throw new InputError(`${url === '' ? 'The store URL is empty' : `${url} is not a store`}.`, { hint: HINT });
}

function parseFileUrl(url: string): { dir: string; fsync: boolean } {
  const [path = '', query = ''] = url
    .slice('file:'.length)
    .replace(/^\/\/(?=\/)/, '')
    .split('?', 2);
  const settings = new URLSearchParams(query);
  const fsync = settings.get('fsync') ?? 'on';
  const unknown = [...settings.keys()].filter((name) => name !== 'fsync');
  if (path === '') throw new InputError('The store URL names no directory.', { hint: 'Use file:DIR.' });
  if (unknown.length > 0 || !['on', 'off'].includes(fsync)) {
    throw new InputError(`${url} has a setting that file stores do not know.`, {
      hint: 'The only one is ?fsync=on|off.',
    });
  }
  return { dir: resolve(path), fsync: fsync === 'on' };
}
