import { isPast } from '../../src/catalog/fold.ts';
import { decodeEntry } from '../../src/log/entry.ts';
import { decodeGarbage } from '../../src/manifest/garbage.ts';
import { decodeManifest, type Manifest, type Part } from '../../src/manifest/manifest.ts';
import { StateHash } from '../../src/manifest/state-hash.ts';
import { type Projection, project } from '../../src/runs/projection.ts';
import { type LogRecord, revisionOf, runIdOf } from '../../src/runs/record.ts';
import { decodeRun, isTerminal, type Run } from '../../src/runs/run.ts';
import { decodeGroups } from '../../src/snapshot/history-index.ts';
import { decodeHistoryGroup } from '../../src/snapshot/history-read.ts';
import { readPart, readRange } from '../../src/snapshot/parts.ts';
import { garbageKey, nameOfKey, orgOfKey, parseRunKey, partKey } from '../../src/store/keys.ts';
import type { ObjectMeta, ObjectStore } from '../../src/store/object-store.ts';
import { passThrough } from '../../src/store/pass-through.ts';
import { wrongAnswers } from './answers.ts';
import type { Scheduler } from './scheduler.ts';

export interface Violation {
  law: string;
  message: string;
}

/** A canonical run as the server has it. */
export interface Canonical {
  run: Run;
  removed: boolean;
  /** The step at which it last was written in a terminal status; −1: never. */
  endedStep: number;
  /** Server time of the last write that was a sign of life. */
  aliveAt: number;
}

interface Committed {
  manifest: Manifest;
  /** Highest revision per run over all parts. */
  revisions: Map<string, number>;
}

/** A refresh that is under way. */
export interface RunningRound {
  orgId: string;
  /** True time. */
  beganAt: number;
}

/**
 * Stands at the server and sees every effect at the instant it happens. It keeps what the laws are judged by, and
 * judges on the spot those that one effect can break.
 */
export class Witness {
  readonly violations: Violation[] = [];
  /** By org, then run id. */
  readonly canonical = new Map<string, Map<string, Canonical>>();
  readonly committed = new Map<string, Committed>();
  readonly records = new Map<string, LogRecord[]>();
  readonly rounds = new Set<RunningRound>();
  /** Every projection that was ever true, as JSON, by `org/run/revision`. */
  readonly truths = new Map<string, string>();
  readonly entryGraceMs: number;
  commits = 0;
  deletions = 0;
  /** Called where something happened that a reader might miss if it looked right now. */
  onTurn: (orgId: string) => void = () => undefined;
  readonly #scheduler: Scheduler;
  /** Parts that some committed version named. */
  readonly #named = new Set<string>();
  readonly #entries = new Map<string, LogRecord[]>();
  /** True time at which a committed version gave the object up. */
  readonly #givenUpAt = new Map<string, number>();

  constructor(scheduler: Scheduler, entryGraceMs: number) {
    this.#scheduler = scheduler;
    this.entryGraceMs = entryGraceMs;
  }

  fail(law: string, message: string): void {
    this.violations.push({ law, message });
  }

  /** `sound` is where the witness itself reads: the same objects, before anything rots. */
  watch(store: ObjectStore, sound: ObjectStore = store): ObjectStore {
    return {
      ...passThrough(store),
      put: async (key, body, options) => {
        const put = await store.put(key, body, options);
        if (put.outcome === 'written') await this.#written(sound, key, body, put.meta);
        return put;
      },
      delete: async (key, options) => {
        const answer = await store.delete(key, options);
        if (answer.outcome === 'deleted') this.#deleted(key);
        return answer;
      },
    };
  }

  truth(orgId: string, row: Pick<Projection, 'run_id' | 'revision'>): string | undefined {
    return this.truths.get(`${orgId}/${row.run_id}/${row.revision}`);
  }

  runsOf(orgId: string): Map<string, Canonical> {
    return mapOf(this.canonical, orgId, () => new Map());
  }

  /**
   * Whether a version with that horizon may lack a run that it knew at `revision` or later: the run was deleted, or had
   * ended before the horizon as it was at one of these revisions. What it has become since does not count: a retry may
   * land between the listing and the commit, and its intent is in the log then.
   */
  mayForget(orgId: string, runId: string, revision: number, horizon: number | null): boolean {
    const canonical = this.runsOf(orgId).get(runId);
    if (canonical === undefined || canonical.removed) return canonical !== undefined;
    for (let at = revision; at <= canonical.run.revision; at++) {
      const truth = this.truth(orgId, { run_id: runId, revision: at });
      if (truth !== undefined && isPast(JSON.parse(truth) as Projection, horizon)) return true;
    }
    return false;
  }

  async #written(store: ObjectStore, key: string, body: Uint8Array, meta: ObjectMeta): Promise<void> {
    const ids = parseRunKey(key);
    if (ids !== null) return this.#wroteRun(ids.orgId, decodeRun(key, body), meta.createdAt);
    const orgId = orgOfKey(key);
    if (orgId === null) return;
    if (key.includes('/log/')) {
      const { records } = decodeEntry(key, orgId, body);
      this.#entries.set(key, records);
      mapOf(this.records, orgId, () => []).push(...records);
      for (const record of records) this.#checkRecord(orgId, record);
    } else if (key.endsWith('/manifest.json')) {
      await this.#committedManifest(store, orgId, decodeManifest(key, orgId, body));
    }
  }

  #wroteRun(orgId: string, run: Run, at: number): void {
    const runs = this.runsOf(orgId);
    const before = runs.get(run.run_id);
    const expected = before === undefined ? 1 : before.run.revision + 1;
    if (run.revision !== expected) {
      this.fail('canonical', `${orgId}/${run.run_id} went to revision ${run.revision}, not ${expected}`);
    }
    if (run.status === 'TIMED_OUT' && before !== undefined) this.#checkTimeOut(before, run, at);
    const alive = before === undefined || run.heartbeat_at !== before.run.heartbeat_at;
    runs.set(run.run_id, {
      run,
      removed: run.deleted_at !== null,
      endedStep: isTerminal(run.status) ? this.#scheduler.steps : (before?.endedStep ?? -1),
      aliveAt: alive ? at : before.aliveAt,
    });
    if (before === undefined || isTerminal(before.run.status) !== isTerminal(run.status)) this.onTurn(orgId);
    if (run.deleted_at === null)
      this.truths.set(`${orgId}/${run.run_id}/${run.revision}`, JSON.stringify(project(run)));
  }

  /** The canonical heartbeat decides: no run is timed out that gave a sign of life in time. */
  #checkTimeOut({ run, aliveAt }: Canonical, timedOut: Run, at: number): void {
    const { heartbeat_timeout_ms } = run;
    if (isTerminal(run.status) || timedOut.error?.code !== 'heartbeat_timeout') return;
    if (heartbeat_timeout_ms === null || at - aliveAt >= heartbeat_timeout_ms - TIME_OUT_SLACK_MS) return;
    this.fail('time-out', `${run.run_id} was timed out ${at - aliveAt} ms after its last sign of life`);
  }

  /** A put states what the canonical run already was. */
  #checkRecord(orgId: string, record: LogRecord): void {
    if (record.kind !== 'put') return;
    if (this.truth(orgId, record.row) !== JSON.stringify(record.row)) {
      this.fail('facts', `a put of ${record.row.run_id}@${record.row.revision} never was true`);
    }
  }

  async #committedManifest(store: ObjectStore, orgId: string, manifest: Manifest): Promise<void> {
    this.commits++;
    const before = this.committed.get(orgId);
    const version = (before?.manifest.version ?? 0) + 1;
    if (manifest.version !== version) this.fail('5', `${orgId}: version ${manifest.version}, not ${version}`);
    const old = StateHash.parse(before?.manifest.state_hash ?? '0'.repeat(32));
    const algebra = old
      .plus(StateHash.parse(manifest.fold.added_hash))
      .minus(StateHash.parse(manifest.fold.removed_hash));
    if (algebra.hex() !== manifest.state_hash)
      this.fail('5', `${orgId}: the state hash of version ${version}`);

    const actual = StateHash.empty();
    const revisions = new Map<string, number>();
    const head = new Map<string, number>();
    for (const part of manifest.parts) {
      this.#named.add(part.name);
      const runs = await runsIn(store, orgId, part).catch(() => null);
      if (runs === null)
        this.fail('6', `${orgId}: version ${version} names part ${part.name}, which cannot be read`);
      for (const [runId, revision] of runs ?? []) {
        actual.add(runId, revision);
        revisions.set(runId, Math.max(revision, revisions.get(runId) ?? 0));
        if (part.level === 0) head.set(runId, revision);
      }
    }
    if (actual.hex() !== manifest.state_hash)
      this.fail('5', `${orgId}: rows of version ${version} do not fit its hash`);
    // Whoever looks for a run takes the row of the head for the latest.
    for (const [runId, revision] of head) {
      if (revision < revisions.get(runId)!)
        this.fail(
          '2',
          `${orgId}: version ${version} hides ${runId}@${revisions.get(runId)} behind ${revision}`,
        );
    }
    this.committed.set(orgId, { manifest, revisions });
    const folded = await this.#givenUp(store, orgId, manifest);
    this.#checkAnswers(orgId, manifest, revisions, head);
    const buried = new Set(manifest.tombstones.map(({ run_id }) => run_id));
    for (const [runId, revision] of before?.revisions ?? []) {
      const now = revisions.get(runId);
      if (now !== undefined ? now >= revision : buried.has(runId)) continue;
      const known = Math.max(revision, folded.get(runId) ?? 0);
      if (this.mayForget(orgId, runId, known, manifest.horizon)) continue;
      this.fail('2', `${orgId}: version ${version} took ${runId} back from revision ${known} to ${now}`);
    }
  }

  /** Notes what this version gives up; the highest revision of each run in the entries among that. */
  async #givenUp(store: ObjectStore, orgId: string, manifest: Manifest): Promise<Map<string, number>> {
    const folded = new Map<string, number>();
    for (const ref of manifest.garbage) {
      if (ref.version !== manifest.version) continue;
      const got = await store.get(garbageKey(orgId, ref.name));
      if (got.outcome !== 'found') continue;
      const { objects } = decodeGarbage('garbage', orgId, got.body);
      for (const { key } of objects) {
        this.#givenUpAt.set(key, this.#scheduler.now);
        for (const record of this.#entries.get(key) ?? []) {
          const [runId, revision] = [runIdOf(record), revisionOf(record)];
          if (record.kind !== 'intent') folded.set(runId, Math.max(revision, folded.get(runId) ?? 0));
        }
      }
    }
    return folded;
  }

  /** Law 2, for what is answered without a look at history. A part in quarantine is one that no fold could look into. */
  #checkAnswers(
    orgId: string,
    { version, horizon, tombstones, quarantine }: Manifest,
    revisions: ReadonlyMap<string, number>,
    head: ReadonlyMap<string, number>,
  ): void {
    if (quarantine.some(({ key }) => key.includes('/snapshots/'))) return;
    const buried = new Map(tombstones.map(({ run_id, revision }) => [run_id, revision]));
    const rows: Projection[] = [];
    for (const [run_id, highest] of revisions) {
      const revision = head.get(run_id) ?? highest;
      const truth = this.truth(orgId, { run_id, revision });
      if (truth === undefined || (buried.get(run_id) ?? 0) >= revision) continue;
      const row = JSON.parse(truth) as Projection;
      if (head.has(run_id) || !isPast(row, horizon)) rows.push(row);
    }
    for (const wrong of wrongAnswers(rows, (runId) => head.has(runId)))
      this.fail('2', `${orgId}: version ${version}: ${wrong}`);
  }

  /** Law 6. */
  #deleted(key: string): void {
    this.deletions++;
    const orgId = orgOfKey(key);
    if (orgId === null) {
      const ids = parseRunKey(key);
      const canonical = ids && this.runsOf(ids.orgId).get(ids.runId);
      if (canonical && !canonical.removed) this.fail('6', `${key} was deleted, and was alive`);
      return;
    }
    const name = nameOfKey(key);
    const { manifest, revisions } = this.committed.get(orgId) ?? { manifest: null, revisions: new Map() };
    if (key.endsWith('/manifest.json')) this.fail('6', `${key} was deleted`);
    if (manifest?.parts.some((part) => part.name === name))
      this.fail('6', `${key} is in use and was deleted`);
    // What `repair` released stays in quarantine until it is gone; a committed list names it.
    if (!this.#givenUpAt.has(key) && manifest?.quarantine.some((quarantined) => quarantined.key === key))
      this.fail('6', `${key} is in quarantine and was deleted`);
    if (!key.includes('/log/') && !key.includes('/snapshots/')) return;

    const givenUpAt = this.#givenUpAt.get(key);
    // A part that no version ever named is an orphan.
    if (givenUpAt === undefined && (key.includes('/log/') || this.#named.has(name)))
      this.fail('6', `${key} was deleted; no committed version gave it up`);
    for (const round of this.rounds) {
      const runsFor = this.#scheduler.now - round.beganAt;
      if (round.orgId === orgId && round.beganAt < (givenUpAt ?? 0) && runsFor <= this.entryGraceMs / 2)
        this.fail('6', `${key} was deleted under a round that began ${Math.round(runsFor)} ms ago`);
    }
    const buried = new Set(manifest?.tombstones.map(({ run_id }) => run_id));
    for (const record of this.#entries.get(key) ?? []) {
      const runId = runIdOf(record);
      if (record.kind === 'delete' || buried.has(runId)) continue;
      const canonical = this.canonical.get(orgId)?.get(runId);
      if (
        record.kind === 'intent' &&
        (canonical === undefined || canonical.run.revision < record.row.revision)
      )
        continue;
      if ((revisions.get(runId) ?? 0) >= revisionOf(record)) continue;
      if (!this.mayForget(orgId, runId, revisionOf(record), manifest?.horizon ?? null))
        this.fail('6', `${key} was deleted with ${runId}@${revisionOf(record)}, which no version has folded`);
    }
  }
}

/** Server-calibrated clocks are this good; see ServerClock. */
const TIME_OUT_SLACK_MS = 40_000;

/** Run id and revision of every run in a part; null where its object is gone. */
async function runsIn(store: ObjectStore, orgId: string, part: Part): Promise<[string, number][] | null> {
  if (part.level === 0) {
    const rows = await readPart(store, orgId, part);
    return rows && Array.from({ length: rows.length }, (_, i) => [rows.runId(i), rows.revision(i)]);
  }
  const runs: [string, number][] = [];
  const key = partKey(orgId, part.name);
  for (const group of decodeGroups(key, part.groups ?? '')) {
    const history = decodeHistoryGroup(key, orgId, await readRange(store, orgId, part, group), group);
    for (let i = 0; i < history.rows.length; i++)
      if (history.isPrimary(i)) runs.push([history.rows.runId(i), history.rows.revision(i)]);
  }
  return runs;
}

export function mapOf<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}
