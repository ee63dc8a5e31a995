import { resolve } from 'node:path';
import { brand } from '../core/brand.ts';
import { type Clock, systemClock } from '../core/clock.ts';
import { InputError } from '../core/errors.ts';
import { type Limits, limits as limitsOf } from '../core/limits.ts';
import { type Random, systemRandom } from '../core/random.ts';
import { MemoryStore } from '../store/memory.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { openStore } from '../store/open.ts';
import { type ServerClock, timeAsked } from '../store/server-clock.ts';
import { ObjectRunStore } from './object-run-store.ts';
import type { RunStore } from './run-store.ts';

export interface OpenRunStoreOptions {
  /** The catalog's own store: what runs live in when no URL says otherwise. It stays open. */
  store: ObjectStore;
  clock?: Clock | undefined;
  random?: Random | undefined;
  limits?: Partial<Limits> | undefined;
  /**
   * What to do where the URL names a folder, file or table that is not there: make it (default), throw InputError, or
   * stand in an empty run store in memory, for dry runs. Nothing is made but by `create`.
   */
  missing?: 'create' | 'refuse' | 'empty' | undefined;
  /** Of a Cloud Storage emulator. */
  endpoint?: string | undefined;
}

const HINT =
  'Use sqlite:FILE, postgres://user@host/database[?schema=S&table=T&manage=off], or a store: file:DIR, gs://bucket[/prefix].';

/**
 * Where canonical runs live, by URL: the catalog's own store (no URL), another object store, `sqlite:FILE` or
 * `postgres://…`. Drivers load only here. `close()` drains, and closes what was opened here.
 */
export async function openRunStore(url: string | undefined, options: OpenRunStoreOptions): Promise<RunStore> {
  try {
    return await open(url, options);
  } catch (error) {
    if (options.missing !== 'empty' || !(error instanceof InputError) || !('missing' in error.details))
      throw error;
    return new OwnedObjectRunStore(
      new MemoryStore({ clock: options.clock ?? systemClock }),
      limitsOf(options.limits),
    );
  }
}

async function open(url: string | undefined, options: OpenRunStoreOptions): Promise<RunStore> {
  const base = {
    create: (options.missing ?? 'create') === 'create',
    clock: options.clock ?? systemClock,
    random: options.random ?? systemRandom,
    limits: limitsOf(options.limits),
  };
  if (url === undefined || url === '' || url === options.store.url)
    return new ObjectRunStore(options.store, base.limits);
  const scheme = /^([a-z][a-z0-9]*):/.exec(url)?.[1];
  if (scheme === 'sqlite') {
    const { openSqliteRunStore } = await import('./sqlite-run-store.ts');
    return openSqliteRunStore({ ...parseSqliteUrl(url), ...base });
  }
  if (scheme === 'postgres' || scheme === 'postgresql') {
    const { openPostgresRunStore } = await import('./postgres-run-store.ts');
    return openPostgresRunStore({ ...parsePostgresUrl(url), ...base });
  }
  if (scheme !== 'file' && scheme !== 'gs' && scheme !== 'memory')
    throw new InputError(`${withoutPassword(url)} is not a run store.`, { hint: HINT });
  const store = await openStore(url, { ...base, endpoint: options.endpoint });
  return new OwnedObjectRunStore(store, base.limits);
}

/**
 * Lets a session learn the store's time before its first request, for who uses `serverClock` by himself: the recorder
 * does so on its own. One GET, unless an answer has told it already.
 */
export function learnTime(session: { store: ObjectStore; serverClock: ServerClock }): Promise<void> {
  return timeAsked(session.store, session.serverClock)();
}

/** The object store that the runs are objects of; null where they are none. `own` is the catalog's store. */
export function objectsOf(runs: RunStore, own: ObjectStore): ObjectStore | null {
  if (runs instanceof OwnedObjectRunStore) return runs.objects;
  return runs instanceof ObjectRunStore ? own : null;
}

class OwnedObjectRunStore extends ObjectRunStore {
  static {
    brand(OwnedObjectRunStore, 'OwnedObjectRunStore');
  }

  readonly objects: ObjectStore;

  constructor(store: ObjectStore, limits: Limits) {
    super(store, limits);
    this.objects = store;
  }

  override close(): Promise<void> {
    return this.objects.close();
  }
}

/** `sqlite:FILE[?table=NAME&fsync=off]`. */
export function parseSqliteUrl(url: string) {
  const [path = '', query = ''] = url
    .slice('sqlite:'.length)
    .replace(/^\/\/(?=\/)/, '')
    .split('?', 2);
  if (path === '') throw new InputError('The run store URL names no file.', { hint: 'Use sqlite:FILE.' });
  const settings = new Settings(url, new URLSearchParams(query));
  const parsed = {
    path: path === ':memory:' ? path : resolve(path),
    table: settings.take('table'),
    fsync: settings.flag('fsync', true),
  };
  settings.done(['table', 'fsync']);
  return parsed;
}

const POSTGRES_SETTINGS = ['schema', 'table', 'manage', 'pool'];
/** What `pg` understands; `statement_timeout` is ours, since the safety of writes depends on it. */
const DRIVER_SETTINGS = [
  'host',
  'port',
  'user',
  'password',
  'ssl',
  'sslmode',
  'sslcert',
  'sslkey',
  'sslrootcert',
  'sslnegotiation',
  'uselibpqcompat',
  'application_name',
  'fallback_application_name',
  'client_encoding',
  'connect_timeout',
  'options',
];

/** Parameters of ours are taken out; those of the driver (`sslmode`, …) stay. Another one is an InputError. */
export function parsePostgresUrl(url: string) {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch (cause) {
    throw new InputError('The PostgreSQL URL cannot be read.', { hint: HINT, cause });
  }
  const settings = new Settings(url, parsed.searchParams);
  const [schema, table, pool] = [settings.take('schema'), settings.take('table'), settings.take('pool')];
  const manage = settings.flag('manage', true);
  settings.done([...POSTGRES_SETTINGS, ...DRIVER_SETTINGS], DRIVER_SETTINGS);
  if (pool !== undefined && !/^[1-9][0-9]{0,2}$/.test(pool))
    throw new InputError(`pool=${pool} is not a number of connections.`, { hint: 'Use pool=1 to pool=999.' });
  return {
    connectionString: parsed.href,
    schema,
    table,
    manage,
    poolMax: pool === undefined ? undefined : Number(pool),
  };
}

class Settings {
  readonly #url: string;
  readonly #params: URLSearchParams;

  constructor(url: string, params: URLSearchParams) {
    this.#url = url;
    this.#params = params;
  }

  take(name: string): string | undefined {
    const value = this.#params.get(name) ?? undefined;
    this.#params.delete(name);
    return value;
  }

  flag(name: string, missing: boolean): boolean {
    const value = this.take(name);
    if (value === undefined) return missing;
    if (value === 'on' || value === 'off') return value === 'on';
    throw new InputError(`${name}=${value} is neither on nor off.`);
  }

  /** All that was not taken must be among `passed`. */
  done(known: readonly string[], passed: readonly string[] = []): void {
    const unknown = [...this.#params.keys()].find((name) => !passed.includes(name));
    if (unknown === undefined) return;
    throw new InputError(`${withoutPassword(this.#url)} has a setting that is not known: ${unknown}.`, {
      hint: `Settings are ${known.join(', ')}.`,
    });
  }
}

function withoutPassword(url: string): string {
  return url.replace(/\/\/[^/@]*@/, '//');
}
