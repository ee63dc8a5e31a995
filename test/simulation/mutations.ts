import type { Hooks } from './desk.ts';
import {
  agedByCreation,
  believing,
  collectingAll,
  deaf,
  deletingAnything,
  foldingTheLast,
  forgetful,
  forgettingTombstones,
  losingAnnouncements,
  sinkOf,
  sleeping,
  tidying,
  unconditional,
} from './mutants.ts';
import { SEALING } from './setups.ts';
import type { Setup } from './simulate.ts';

/** One rule of the protocol taken away, the setting in which that shows soonest, and the laws it may break. */
export interface Mutation {
  rule: string;
  /** A function where each simulation needs its own. */
  hooks: Hooks | (() => Hooks);
  setup?: Partial<Setup>;
  /** Changes what no wrapper reaches; gives back what undoes it. */
  patch?: () => () => void;
  /** Why no simulation can notice: the rule is a second line of defence. */
  unnoticed?: string;
}

const CALM = { writer: { crash: 0, pause: 0 }, reader: { crash: 0, pause: 0 } };
const DYING = { lateMs: 200_000, faults: { late_write: 0.3 }, chaos: { writer: { crash: 0.03, pause: 0 } } };
const SLEEPY = { operators: 3, minutes: 30, passGapMs: 60_000, runsPerWriter: 40 };
const FREQUENT = { passGapMs: 3_000, compactors: 2 };

export const MUTATIONS: readonly Mutation[] = [
  {
    rule: 'an intent goes before a run enters the active set',
    hooks: { sink: (sink) => sinkOf(sink, (records) => records.filter(({ kind }) => kind !== 'intent')) },
  },
  {
    rule: 'acknowledge after the append',
    hooks: {
      sink: (sink) => ({
        append: async (orgId, records, signal) => {
          sink.append(orgId, records, signal).catch(() => undefined);
        },
      }),
    },
  },
  {
    rule: 'a repeat appends the record again',
    setup: { chaos: { ...CALM, writer: { crash: 0.02, pause: 0 } } },
    hooks: () => {
      const seen = new Set<string>();
      return { sink: (sink) => forgetful(sink, seen) };
    },
  },
  {
    rule: 'an unknown append is not a success',
    hooks: { store: (store, role) => (role === 'writer' ? believing(store) : store) },
    setup: { limits: { attemptsMax: 2 }, faults: { refused: 0.3, late_write: 0.3 } },
  },
  {
    rule: 'an acknowledged entry bears the server time in its name, within entryLagMax',
    hooks: { limits: (role) => (role === 'writer' ? { entryLagMaxMs: 1e9 } : {}), serverClock: deaf },
  },
  {
    rule: 'a warm cursor goes back by entryLagMax',
    hooks: { limits: (role) => (role === 'reader' ? { entryLagMaxMs: 0 } : {}) },
    setup: { faults: { refused: 0.1, stall_before: 0.05 } },
  },
  {
    rule: 'coversUntil stays behind by entryLagMax',
    hooks: { limits: (role) => (role === 'compactor' ? { entryLagMaxMs: -60_000 } : {}) },
    setup: { ...FREQUENT, pageMax: 3 },
  },
  {
    rule: 'a round that outlives half the grace is done again',
    hooks: { limits: (role) => (role === 'reader' ? { entryGraceMs: 1e12 } : {}) },
    setup: { ...FREQUENT, readers: 4, pageMax: 3, chaos: { reader: { crash: 0, pause: 0.02 } } },
  },
  {
    rule: 'entries wait out the grace',
    hooks: { limits: (role) => (role === 'compactor' ? { entryGraceMs: 0, serverTimeResolutionMs: 0 } : {}) },
    setup: { ...FREQUENT, readers: 4 },
  },
  {
    rule: 'the grace counts from the commit, not from the creation',
    hooks: { store: (store, role, bare) => (role === 'compactor' ? agedByCreation(store, bare) : store) },
    setup: { passGapMs: 400_000, compactors: 3, readers: 6, minutes: 30, faults: { stall_before: 0.1 } },
  },
  {
    rule: 'only the garbage of committed versions is collected',
    hooks: { store: (store, role, bare) => (role === 'compactor' ? collectingAll(store, bare) : store) },
    setup: { ...FREQUENT, compactors: 3 },
  },
  {
    rule: 'the manifest is compared and swapped',
    hooks: {
      store: (store, role) => (role === 'compactor' ? unconditional(store, /\/manifest\.json$/) : store),
    },
    setup: { ...FREQUENT, compactors: 3 },
  },
  {
    rule: 'a canonical run is compared and swapped',
    hooks: { store: (store) => unconditional(store, /^authoritative-runs\//) },
    setup: { operators: 2 },
  },
  {
    rule: 'an unknown commit is not cleaned up',
    hooks: { store: (store, role) => (role === 'compactor' ? tidying(store) : store) },
    setup: { ...FREQUENT, limits: { inlineHeadBytesMax: 0 } },
  },
  { rule: 'readers look into open intents', hooks: { resolveIntents: false } },
  {
    rule: 'an open intent stays in the log until intentTtl',
    hooks: { limits: (role) => (role === 'compactor' ? { intentTtlMs: 0 } : {}) },
    setup: { ...FREQUENT, ...DYING },
  },
  {
    rule: 'readers go on asking until no write of the intent can land any more',
    hooks: { limits: (role) => (role === 'compactor' ? { lateWriteMaxMs: -1 } : {}) },
    setup: { ...FREQUENT, ...DYING, chaos: { writer: { crash: 0.06, pause: 0 } } },
  },
  {
    rule: 'what a compactor saw says nothing of a later intent',
    hooks: {},
    patch: losingAnnouncements,
    setup: { passGapMs: 60_000, minutes: 30, chaos: { writer: { crash: 0.02, pause: 0.05 } } },
  },
  {
    rule: 'what changed lately stays in the head',
    hooks: {
      limits: (role) => (role === 'compactor' ? { sealAgeMs: 0 } : {}),
      sink: (sink, process) => sleeping(sink, process, 200_000),
    },
    // The rest is allowed: a record may be as old, and the rows would be kept as long.
    setup: { ...SLEEPY, passGapMs: 20_000, limits: { ...SEALING, recordAgeMaxMs: 240_000 } },
  },
  {
    rule: 'a record that was true long ago is not sent any more',
    hooks: { sink: sleeping },
    setup: { ...SLEEPY, limits: SEALING },
  },
  { rule: 'the highest revision wins', hooks: {}, patch: foldingTheLast },
  {
    rule: 'a tombstone outlives its entry',
    hooks: {
      store: (store) => forgettingTombstones(store),
      sink: (sink, process) => sleeping(sink, process, 60_000),
    },
    setup: { ...FREQUENT, operators: 3, removals: 0.5, minutes: 20 },
  },
  {
    rule: 'every body is checked against its checksum',
    hooks: { unverified: true },
    setup: { faults: { flipped_body: 0.5 }, listMetadata: false },
  },
  {
    rule: 'the collector names the generation that it deletes',
    hooks: { store: (store, role) => (role === 'compactor' ? deletingAnything(store) : store) },
    setup: FREQUENT,
    unnoticed:
      'names of entries, parts and lists are never used twice, so there is no other generation to hit; of a dirty marker there is, and a lost marker costs a slow full pass, not a law',
  },
];
