import { tableToIPC } from 'apache-arrow';
import { expect } from 'vitest';
import type { Role } from '../../src/service/access.ts';
import { createService, type ServiceOptions } from '../../src/service/create.ts';
import type { ServiceLimits } from '../../src/service/limits.ts';
import type { Logger } from '../../src/service/logger.ts';
import type { Route } from '../../src/service/route.ts';
import { methodsFor, ROUTES } from '../../src/service/routes/table.ts';
import type { Service } from '../../src/service/service.ts';
import { mintToken, secretVerifier } from '../../src/service/tokens.ts';
import { toArrow } from '../../src/snapshot/arrow.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { ORG } from '../support/runs.ts';
import { type World, type WorldOptions, worldOn } from '../support/world.ts';

export const SECRET = 'a test secret that is long enough to be one';
export const ISSUER = 'https://issuer.test';
export const AUDIENCE = 'runfold-test';
export const HOUR_MS = 3_600_000;

export interface TokenFor {
  role?: Role;
  orgs?: string[];
  run?: string;
  attempt?: number;
  ttlMs?: number;
  now?: number;
}

export function tokenFor({
  role = 'writer',
  orgs = [ORG],
  run,
  attempt,
  ttlMs = HOUR_MS,
  now,
}: TokenFor = {}) {
  return mintToken({
    issuer: ISSUER,
    audience: AUDIENCE,
    secret: SECRET,
    orgs,
    roles: [role],
    run,
    attempt,
    ttlMs,
    now: now ?? Date.now(),
  });
}

/** Remembers what was logged, to be searched for what must not be in it. */
export class Log implements Logger {
  readonly lines: string[] = [];
  readonly #add = (fields: object, message: string) => {
    this.lines.push(JSON.stringify({ ...fields, message }));
  };
  readonly info = this.#add;
  readonly warn = this.#add;
  readonly error = this.#add;
}

export interface Served {
  world: World;
  service: Service;
  log: Log;
  /** As a caller with that token; a writer of ORG by default. */
  call(method: string, path: string, options?: CallOptions): Promise<Response>;
  json(method: string, path: string, options?: CallOptions): Promise<Answered>;
}

export interface CallOptions {
  body?: unknown;
  headers?: Record<string, string>;
  /** Null: none. */
  token?: string | null;
  role?: Role;
}

// biome-ignore lint/suspicious/noExplicitAny: bodies of answers, looked into by tests.
export type Answered = { status: number; body: any; headers: Headers };

export async function serve(
  limits: Partial<ServiceLimits> = {},
  options: Partial<ServiceOptions> & { store?: ObjectStore; seed?: number; world?: WorldOptions } = {},
): Promise<Served> {
  const { store = new MemoryStore({}), seed = 1, world: worldOptions, ...rest } = options;
  const world = await worldOn(store, { seed, ...worldOptions });
  const log = new Log();
  const service = createService({
    session: world.session,
    verifier: secretVerifier({ issuer: ISSUER, audience: AUDIENCE, secret: SECRET }),
    limits: { drainDelayMs: 0, ...limits },
    logger: log,
    encodeArrow: async (rows) => tableToIPC(toArrow(rows), 'stream'),
    ...rest,
  });
  const tokens = new Map<Role, Promise<string>>();
  const tokenOf = (role: Role) => {
    const known = tokens.get(role) ?? tokenFor({ role });
    tokens.set(role, known);
    return known;
  };
  const call: Served['call'] = async (
    method,
    path,
    { body, headers = {}, token, role = 'operator' } = {},
  ) => {
    const bearer = token === undefined ? await tokenOf(role) : token;
    return service.fetch(
      new Request(`http://runfold.test${path}`, {
        method,
        headers: {
          ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      }),
    );
  };
  return {
    world,
    service,
    log,
    call,
    async json(method, path, given) {
      const response = await call(method, path, given);
      const text = await response.text();
      return {
        status: response.status,
        body: text === '' ? null : JSON.parse(text),
        headers: response.headers,
      };
    },
  };
}

export const RUNS = `/v1/orgs/${ORG}/runs`;
export const NOW = { headers: { 'cache-control': 'max-age=0' } };

export const REGISTRY_TAGS = ['Artifacts', 'References'];

/** Calls that must answer as their routes say they do: the status is declared, and the body fits its schema. */
export function checkedCalls() {
  const names = new Set<string>();
  const touched = {
    add: (name: string) => void names.add(name),
    /** Routes of which no call succeeded. */
    untouched: (which: (route: Route) => boolean) =>
      ROUTES.filter(which)
        .map(({ method, path }) => `${method} ${path}`)
        .filter((name) => !names.has(name)),
  };
  const checked = async (
    served: Served,
    method: string,
    path: string,
    options: CallOptions = {},
  ): Promise<Answered> => {
    const answer = await served.json(method, path, options);
    const pathname = path.split('?')[0]!;
    const route = ROUTES.find(
      (one) =>
        one.method === method &&
        new RegExp(`^${one.path.replace(/\{\w+\}/g, '[^/]+')}$`).test(pathname) &&
        methodsFor(pathname).includes(one.method),
    );
    if (route === undefined) throw new Error(`${method} ${path} is not in the table`);
    if (answer.status < 400) {
      touched.add(`${route.method} ${route.path}`);
      const declared = route.answers[answer.status];
      expect(declared, `${method} ${path} ${answer.status}`).toBeDefined();
      const schema = declared!.content?.find(({ type }) => type === 'application/json')?.schema;
      if (schema !== undefined) expect(schema.safeParse(answer.body).error, path).toBeUndefined();
    }
    return answer;
  };
  return { checked, touched };
}
