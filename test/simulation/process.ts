import type { Clock } from '../../src/core/clock.ts';
import { type Random, uniform } from '../../src/core/random.ts';
import { skewed } from '../../src/store/faults.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import type { Scheduler } from './scheduler.ts';
import type { Trace } from './trace.ts';

export type Role = 'writer' | 'operator' | 'compactor' | 'reader' | 'auditor';

/** Chances, per answer that a process gets, that it dies or falls asleep right there. */
export interface Chaos {
  crash: number;
  pause: number;
}

export interface Host {
  scheduler: Scheduler;
  trace: Trace;
  random: Random;
  chaos(role: Role): Chaos;
  counts: { operations: number; crashes: number; pauses: number };
}

/** Shorter than a deadline, about half a grace and a grace, and far beyond. Seconds. */
const PAUSES = [
  [5, 40],
  [50, 150],
  [150, 900],
] as const;

/**
 * One operating-system process: a wrong clock, a network, and a life that can end or stop between any two waits.
 * A process that is dead is never called back; what it has sent may still arrive. One that is paused gets its
 * overdue timers first and then its answers when it wakes, as an event loop does.
 */
export class Process {
  readonly name: string;
  readonly role: Role;
  readonly clock: Clock;
  readonly random: Random;
  alive = true;
  onCrash: () => void = () => undefined;
  #pausedUntil = 0;
  readonly #host: Host;

  constructor(host: Host, name: string, role: Role, clock: { offsetMs: number; driftPpm: number }) {
    this.#host = host;
    this.name = name;
    this.role = role;
    this.random = host.random;
    const { scheduler } = host;
    this.clock = skewed(
      {
        now: scheduler.clock.now,
        monotonic: scheduler.clock.monotonic,
        sleep: (ms, signal) => this.#sleep(ms, signal),
      },
      clock,
    );
  }

  /** The store as this process reaches it. `check` sees every request before it leaves. */
  network(server: ObjectStore, check: (key: string) => void = () => undefined): ObjectStore {
    const send = <T>(what: string, key: string, call: () => Promise<T>): Promise<T> => {
      check(key);
      return this.#request(`${what} ${key}`, call);
    };
    // Who gives up waiting cannot call back what it has sent: signals stay on this side.
    return {
      url: server.url,
      capabilities: server.capabilities,
      get: (key, o) => send('get', key, () => server.get(key, { ...o, signal: undefined })),
      head: (key) => send('head', key, () => server.head(key)),
      put: (key, body, o) => send('put', key, () => server.put(key, body, { ...o, signal: undefined })),
      delete: (key, o) => send('delete', key, () => server.delete(key, { ...o, signal: undefined })),
      list: (o) => send('list', o.prefix, () => server.list({ ...o, signal: undefined })),
      close: async () => undefined,
    };
  }

  crash(): void {
    if (!this.alive) return;
    this.alive = false;
    this.#host.counts.crashes++;
    this.say('CRASH');
    this.onCrash();
  }

  pause(ms: number): void {
    this.#host.counts.pauses++;
    this.#pausedUntil = Math.max(this.#pausedUntil, this.#host.scheduler.now + ms);
    this.say(`PAUSE ${Math.round(ms)} ms`);
  }

  say(what: string): void {
    this.#host.trace.add(this.#host.scheduler.now, this.name, what);
  }

  #request<T>(what: string, call: () => Promise<T>): Promise<T> {
    const { scheduler, random, counts } = this.#host;
    return new Promise((resolve, reject) => {
      const arrive = () => {
        if (!this.alive && uniform(random) < 0.5) return;
        counts.operations++;
        call().then(
          (answer) => back(outcomeOf(answer), () => resolve(answer)),
          (error: unknown) => back(String((error as { code?: unknown }).code ?? error), () => reject(error)),
        );
      };
      const back = (outcome: string, act: () => void) => {
        scheduler.after(latency(random), () => this.#deliver(`${what}: ${outcome}`, act));
      };
      scheduler.after(latency(random), arrive);
    });
  }

  #deliver(what: string, act: () => void): void {
    const { scheduler, random } = this.#host;
    if (!this.alive) return;
    if (scheduler.now < this.#pausedUntil) {
      scheduler.at(this.#pausedUntil + 0.01, () => this.#deliver(what, act));
      return;
    }
    const { crash, pause } = this.#host.chaos(this.role);
    // The instant after a write is where a protocol breaks, if it does.
    const dice = uniform(random) / (what.startsWith('put') ? 4 : 1);
    if (dice < crash) {
      this.crash();
    } else if (dice < crash + pause) {
      const [least, most] = PAUSES[random.u32() % PAUSES.length]!;
      this.pause((least + (most - least) * uniform(random)) * 1000);
      this.#deliver(what, act);
    } else {
      this.say(what);
      act();
    }
  }

  #sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const { scheduler } = this.#host;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const fire = () => {
        if (!this.alive) return;
        if (scheduler.now < this.#pausedUntil) timer = scheduler.at(this.#pausedUntil, fire);
        else resolve();
      };
      let timer = scheduler.after(ms, fire);
      const onAbort = () => {
        timer.cancel();
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
}

/** 3 to 60 ms, and now and then seconds. */
function latency(random: Random): number {
  const u = uniform(random);
  return u < 0.99 ? 3 + 57 * u ** 4 : 4_000 * uniform(random);
}

function outcomeOf(answer: unknown): string {
  if (answer === null || typeof answer !== 'object') return String(answer);
  const { outcome, items } = answer as { outcome?: string; items?: readonly unknown[] };
  return outcome ?? (items === undefined ? 'ok' : `${items.length} items`);
}
