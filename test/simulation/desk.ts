import type { CompactorContext } from '../../compactor/context.ts';
import { OrgCatalog } from '../../src/catalog/catalog.ts';
import { type Limits, limits } from '../../src/core/limits.ts';
import type { Random } from '../../src/core/random.ts';
import { LogWriter } from '../../src/log/append.ts';
import type { RunEvent } from '../../src/runs/events.ts';
import { ObjectRunStore } from '../../src/runs/object-run-store.ts';
import { Recorder, type RecordSink } from '../../src/runs/recorder.ts';
import type { RunStore } from '../../src/runs/run-store.ts';
import type { PartCodec } from '../../src/snapshot/codec.ts';
import { orgPrefix, runsPrefix } from '../../src/store/keys.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { resilient } from '../../src/store/resilient.ts';
import { calibrating, ServerClock } from '../../src/store/server-clock.ts';
import { verified } from '../../src/store/verified.ts';
import { type Coverage, covered } from './coverage.ts';
import type { Process, Role } from './process.ts';

/**
 * Where a mutation takes a rule of the protocol away (mutations.ts). Product code stays as it is: what is changed is
 * what it is given.
 */
export interface Hooks {
  limits?: (role: Role) => Partial<Limits>;
  /** Around everything, retries included. `bare` is the server itself. */
  store?: (store: ObjectStore, role: Role, bare: ObjectStore) => ObjectStore;
  sink?: (sink: RecordSink, process: Process) => RecordSink;
  serverClock?: (clock: ServerClock) => ServerClock;
  runs?: (runs: RunStore, role: Role) => RunStore;
  unverified?: boolean;
  resolveIntents?: boolean;
}

export interface DeskOptions {
  server: ObjectStore;
  coverage: Coverage;
  codec: PartCodec;
  limits: Partial<Limits>;
  hooks: Hooks;
  fail(law: string, message: string): void;
}

/** What one process works with: wired as src/session.ts and compactor/main.ts do it. */
export class Desk {
  readonly process: Process;
  readonly limits: Limits;
  readonly random: Random;
  readonly store: ObjectStore;
  readonly runs: RunStore;
  readonly log: RecordSink;
  readonly serverClock: ServerClock;
  readonly #options: DeskOptions;

  constructor(process: Process, options: DeskOptions) {
    const { hooks } = options;
    this.process = process;
    this.random = process.random;
    this.#options = options;
    this.limits = limits({ ...options.limits, ...hooks.limits?.(process.role) });
    const serverClock = new ServerClock(process.clock);
    this.serverClock = hooks.serverClock?.(serverClock) ?? serverClock;
    this.store = calibrating(this.#reach(), process.clock, this.serverClock);
    const runs = new ObjectRunStore(this.store, this.limits);
    this.runs = hooks.runs?.(runs, process.role) ?? runs;
    const log = new LogWriter(this.store, {
      clock: process.clock,
      serverClock: this.serverClock,
      random: this.random,
      limits: this.limits,
    });
    this.log = hooks.sink?.(log, process) ?? log;
  }

  /** A recorder for one call, so that coverage knows which event meets which state. */
  recorder(event: RunEvent | 'observe'): Recorder {
    return new Recorder(covered(this.runs, this.#options.coverage, event), this.log, {
      limits: this.limits,
      now: () => this.serverClock.now(),
    });
  }

  /** Law 7: this catalog's requests stay under its own org. */
  catalog(orgId: string): OrgCatalog {
    const allowed = [orgPrefix(orgId), runsPrefix(orgId)];
    const store = this.#reach((key) => {
      if (!allowed.some((prefix) => key.startsWith(prefix)))
        this.#options.fail('7', `${this.process.name}: a refresh of ${orgId} asked for ${key}`);
    });
    const { resolveIntents } = this.#options.hooks;
    return new OrgCatalog(store, orgId, {
      clock: this.process.clock,
      limits: this.limits,
      ...(resolveIntents === undefined ? {} : { resolveIntents }),
    });
  }

  compactor(): CompactorContext {
    const { store, runs, random, limits: bounds, process } = this;
    return { store, runs, codec: this.#options.codec, clock: process.clock, random, limits: bounds };
  }

  sleep(ms: number): Promise<void> {
    return this.process.clock.sleep(ms);
  }

  #reach(check?: (key: string) => void): ObjectStore {
    const { server, hooks } = this.#options;
    const network = this.process.network(server, check);
    const { clock, random, role } = this.process;
    const store = resilient(hooks.unverified ? network : verified(network), {
      clock,
      random,
      limits: this.limits,
    });
    return hooks.store?.(store, role, server) ?? store;
  }
}
