import type { FoldPolicy } from '../../compactor/due.ts';
import { errorMessage, isRunfoldError } from '../../src/core/errors.ts';
import type { Limits } from '../../src/core/limits.ts';
import { limits } from '../../src/core/limits.ts';
import { seededRandom, uniform } from '../../src/core/random.ts';
import { type PartCodec, partCodec } from '../../src/snapshot/codec.ts';
import { FaultPlan, type FaultPlanOptions, faulty, skewed } from '../../src/store/faults.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { compactorLife, operatorLife, readerLife, writerLife } from './actors.ts';
import { audit } from './audit.ts';
import { Coverage } from './coverage.ts';
import { Desk, type Hooks } from './desk.ts';
import { Laws } from './laws.ts';
import { type Chaos, type Host, Process, type Role } from './process.ts';
import { rotting } from './rot.ts';
import { Scheduler } from './scheduler.ts';
import { Trace } from './trace.ts';
import { type Violation, Witness } from './witness.ts';

export interface Setup {
  seed: number;
  orgs: number;
  writers: number;
  operators: number;
  compactors: number;
  readers: number;
  /** Virtual minutes until nothing new is begun. */
  minutes: number;
  /** Ms that a compactor rests between passes, at most. */
  passGapMs: number;
  /** Runs that one writer begins at most. */
  runsPerWriter: number;
  faults: NonNullable<FaultPlanOptions['rates']>;
  /** With the 45 s of a stall well within `lateWriteMaxMs`, as the protocol assumes. */
  lateMs: number;
  pageMax: number;
  listMetadata: boolean;
  chaos: Partial<Record<Role, Chaos>>;
  limits: Partial<Limits>;
  /** Bytes of stored objects rot. */
  rot: boolean;
  /** Chance that a stray call is a delete. */
  removals: number;
  /** Chance that a compactor does something rarer after a pass: orphans, repair, a retention policy. */
  upkeep: number;
  retainMs: number | null;
  /** Compactors defer by it, most of the time. */
  fold: FoldPolicy | null;
  hooks: Hooks;
}

export interface Outcome {
  seed: number;
  hash: string;
  violations: readonly Violation[];
  /** Store requests that reached the server. */
  operations: number;
  crashes: number;
  pauses: number;
  /** Orgs that a pass left for a later fold. */
  deferrals: number;
  faults: Record<string, number>;
  commits: number;
  deletions: number;
  acknowledgements: number;
  refreshes: number;
  virtualMs: number;
  coverage: Coverage;
  errors: Record<string, number>;
  tail: string;
}

const MINUTE = 60_000;

/** Everything the actors of one simulation share. */
export class World implements Host {
  readonly setup: Setup;
  readonly scheduler = new Scheduler();
  readonly trace = new Trace();
  readonly random;
  readonly counts = { operations: 0, crashes: 0, pauses: 0, deferrals: 0 };
  readonly coverage = new Coverage();
  readonly witness: Witness;
  readonly laws: Laws;
  readonly plan: FaultPlan;
  readonly server: ObjectStore;
  readonly memory: ObjectStore;
  readonly codec: PartCodec;
  readonly orgs: readonly string[];
  /** Errors that callers met, by code: expected while faults strike. */
  readonly errors = new Map<string, number>();
  /** Writers begin nothing new; readers and compactors go on. */
  draining = false;
  stopping = false;
  calm = false;
  working = 0;
  others = 0;
  readonly #napping = new Set<{ orgId: string; wake: AbortController }>();

  constructor(setup: Setup, codec: PartCodec) {
    this.setup = setup;
    this.codec = codec;
    this.random = seededRandom(setup.seed);
    const { scheduler, random } = this;
    const bounds = limits(setup.limits);
    this.witness = new Witness(scheduler, bounds.entryGraceMs);
    this.witness.onTurn = (orgId) => this.#alarm(orgId);
    this.laws = new Laws(scheduler, this.witness, setup.rot);
    this.orgs = Array.from({ length: setup.orgs }, (_, i) => `org-${i}`);
    const clock = skewed(scheduler.clock, this.#skew());
    const memory = new MemoryStore({ clock, capabilities: { listMetadata: setup.listMetadata } });
    this.memory = setup.rot ? rotting(memory, this) : memory;
    this.plan = new FaultPlan({
      random,
      clock: scheduler.clock,
      rates: setup.faults,
      lateMs: setup.lateMs,
      stallMs: 45_000,
      pageMax: setup.pageMax,
    });
    this.server = faulty(this.witness.watch(this.memory, memory), this.plan);
  }

  chaos(role: Role): Chaos {
    return (this.calm ? undefined : this.setup.chaos[role]) ?? { crash: 0, pause: 0 };
  }

  /** Sleeps until `ms` are over or something happens in `orgId` that is worth a look at once. */
  nap(desk: Desk, orgId: string, ms: number): Promise<void> {
    const wake = new AbortController();
    this.#napping.add({ orgId, wake });
    return desk.process.clock.sleep(ms, wake.signal).catch(() => undefined);
  }

  #alarm(orgId: string): void {
    for (const napping of this.#napping) {
      if (napping.orgId !== orgId || uniform(this.random) < 0.5) continue;
      this.#napping.delete(napping);
      this.scheduler.after(30 * uniform(this.random), () => napping.wake.abort());
    }
  }

  /** Runs `life` in a process of its own, and in a new one after each crash, until it ends. */
  spawn(name: string, role: Role, life: (desk: Desk) => Promise<void>, onEnd: () => void): void {
    let incarnation = 0;
    const start = () => {
      const process = new Process(this, `${name}.${incarnation++}`, role, this.#skew());
      process.onCrash = () => this.scheduler.after(uniform(this.random) * 60_000, start);
      life(this.desk(process)).then(onEnd, (error: unknown) => {
        this.witness.fail('defect', `${process.name}: ${(error as Error).stack ?? errorMessage(error)}`);
        onEnd();
      });
    };
    this.scheduler.after(uniform(this.random) * 5_000, start);
  }

  desk(process: Process): Desk {
    return new Desk(process, {
      server: this.server,
      coverage: this.coverage,
      codec: this.codec,
      limits: this.setup.limits,
      hooks: this.setup.hooks,
      fail: (law, message) => this.witness.fail(law, message),
    });
  }

  /** Notes an error that a caller met; one that no fault explains is a violation. */
  met(who: string, error: unknown): void {
    if (!isRunfoldError(error)) {
      this.witness.fail('defect', `${who}: ${(error as Error)?.stack ?? String(error)}`);
      return;
    }
    this.errors.set(error.code, (this.errors.get(error.code) ?? 0) + 1);
    const { rot, hooks } = this.setup;
    if (error.code === 'CORRUPT' && !rot && !hooks.unverified)
      this.witness.fail('8', `${who}: ${error.message}`);
    if (error.code === 'UNSUPPORTED_FORMAT') this.witness.fail('8', `${who}: ${error.message}`);
  }

  #skew() {
    return {
      offsetMs: Math.floor((uniform(this.random) - 0.5) * 10 * MINUTE),
      driftPpm: (uniform(this.random) - 0.5) * 400,
    };
  }
}

/** One simulation from one seed, until the end of its script or its first violation. */
export async function simulate(setup: Setup): Promise<Outcome> {
  const world = new World(setup, await partCodec());
  const { scheduler, witness } = world;
  const failed = () => witness.violations.length > 0;
  const endWork = () => world.working--;
  const endOther = () => world.others--;
  for (let i = 0; i < setup.writers; i++, world.working++)
    world.spawn(`writer-${i}`, 'writer', writerLife(world, i), endWork);
  for (let i = 0; i < setup.operators; i++, world.working++)
    world.spawn(`operator-${i}`, 'operator', operatorLife(world), endWork);
  for (let i = 0; i < setup.compactors; i++, world.others++)
    world.spawn(`compactor-${i}`, 'compactor', compactorLife(world), endOther);
  for (let i = 0; i < setup.readers; i++, world.others++)
    world.spawn(`reader-${i}`, 'reader', readerLife(world), endOther);

  await scheduler.run(failed, setup.minutes * MINUTE);
  world.draining = true;
  await scheduler.run(() => failed() || world.working === 0, (setup.minutes + 20) * MINUTE);
  world.plan.calm();
  world.calm = true;
  if (!(await scheduler.run(() => failed() || world.working === 0, scheduler.now + 600 * MINUTE)))
    witness.fail('progress', `${world.working} callers are still waiting ten hours after the last fault`);
  await scheduler.run(failed, scheduler.now + 10 * MINUTE);
  world.stopping = true;
  await scheduler.run(() => failed() || world.others === 0, scheduler.now + 120 * MINUTE);
  if (!failed()) await audit(world);
  return outcomeOf(world);
}

function outcomeOf(world: World): Outcome {
  const { witness, laws, plan, counts, scheduler } = world;
  return {
    seed: world.setup.seed,
    hash: world.trace.hash,
    violations: witness.violations,
    ...counts,
    faults: { ...plan.counts },
    commits: witness.commits,
    deletions: witness.deletions,
    acknowledgements: laws.acknowledgements,
    refreshes: laws.refreshes,
    virtualMs: Math.round(scheduler.now),
    coverage: world.coverage,
    errors: Object.fromEntries(world.errors),
    tail: world.trace.tail(),
  };
}
