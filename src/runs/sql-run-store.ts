import { brand } from '../core/brand.ts';
import { cancelled } from '../core/clock.ts';
import { CorruptError, InputError } from '../core/errors.ts';
import { checkId, isId } from '../core/ids.ts';
import type { Limits } from '../core/limits.ts';
import type { Random } from '../core/random.ts';
import { decodeRunOf, encodeRunWithin, type Run } from './run.ts';
import type { RunStore, RunWrite, ScannedRun, ScanOptions, StoredRun } from './run-store.ts';
import type { Document, DocumentKey, DocumentState, Documents, DocumentWrite } from './sql-documents.ts';

/** Rows per page of a scan: one query each. */
export const SCAN_PAGE = 500;

export interface SqlRunStoreOptions {
  limits: Limits;
  random: Random;
}

/** A scan that starts where another one stopped. */
export interface ResumableScan extends ScanOptions {
  /** Exclusive, in the order of the scan. */
  after?: { orgId: string; runId: string } | undefined;
}

/** Canonical runs in a SQL table, one row each. Every call but `scan` is one statement. */
export class SqlRunStore implements RunStore {
  static {
    brand(SqlRunStore, 'SqlRunStore');
  }

  readonly url: string;
  readonly #documents: Documents;
  readonly #options: SqlRunStoreOptions;

  /** `documents` must be `settling`. */
  constructor(documents: Documents, options: SqlRunStoreOptions) {
    this.url = documents.url;
    this.#documents = documents;
    this.#options = options;
  }

  async read(orgId: string, runId: string, signal = never()): Promise<StoredRun | null> {
    const found = await this.#documents.read(keyOf(orgId, runId), signal);
    return found === null ? null : { run: this.#decode(found), token: tokenOf(found) };
  }

  async create(run: Run, signal = never()): Promise<RunWrite> {
    const document = this.#documentOf(run);
    return answerOf(document, await this.#documents.insert(document, signal));
  }

  async replace(run: Run, token: string, signal = never()): Promise<RunWrite> {
    const document = this.#documentOf(run);
    return answerOf(document, await this.#documents.update(document, stateOf(token), signal));
  }

  /** One statement, and a second one where it found nothing to remove. A run that is gone already counts as removed. */
  async remove(orgId: string, runId: string, token: string, signal = never()): Promise<RunWrite> {
    const key = keyOf(orgId, runId);
    const answer = await this.#documents.delete(key, stateOf(token), signal);
    if (answer.outcome === 'unknown') return answer;
    if (answer.outcome === 'conflict' && (await this.#documents.read(key, signal)) !== null) return answer;
    return { outcome: 'written', token: null };
  }

  /** Ascending by (org, run id) in byte order. One query per `SCAN_PAGE` runs; no connection is held in between. */
  async *scan({ orgId, after, signal = never() }: ResumableScan = {}): AsyncIterable<ScannedRun> {
    if (orgId !== undefined) checkId('org id', orgId);
    let last: DocumentKey | undefined = after && { orgId: after.orgId, id: after.runId };
    for (;;) {
      if (signal.aborted) throw cancelled(signal);
      const page = await this.#documents.page({ orgId, after: last, limit: SCAN_PAGE }, signal);
      for (const row of page) yield this.#scanned(row);
      if (page.length < SCAN_PAGE) return;
      last = page.at(-1);
    }
  }

  /** Names the table itself, however the URL was spelled: the same for two openings of one table. */
  identity(signal = never()): Promise<string> {
    return this.#documents.identity(signal);
  }

  /** Waits for calls in flight; later ones are refused. */
  close(): Promise<void> {
    return this.#documents.close();
  }

  #scanned(row: DocumentKey & ({ document: Document } | { problem: CorruptError })): ScannedRun {
    const key = this.#name(row);
    const ids = { org_id: row.orgId, run_id: row.id };
    if ('problem' in row) return { key, problem: row.problem, ...ids };
    try {
      return { key, run: this.#decode(row.document) };
    } catch (problem) {
      return { key, problem, ...ids };
    }
  }

  #decode(document: Document): Run {
    const key = this.#name(document);
    if (!isId(document.orgId) || !isId(document.id)) throw new CorruptError(key, 'its ids are not allowed');
    const run = decodeRunOf(key, document.orgId, document.id, new TextEncoder().encode(document.body));
    if (run.revision !== document.revision)
      throw new CorruptError(key, `it holds revision ${run.revision}, its column says ${document.revision}`);
    return run;
  }

  #documentOf(run: Run): Document {
    const { limits, random } = this.#options;
    const body = encodeRunWithin(run, limits);
    const key = keyOf(run.org_id, run.run_id);
    return {
      ...key,
      revision: run.revision,
      writeId: newWriteId(random),
      body: new TextDecoder().decode(body),
    };
  }

  #name({ orgId, id }: DocumentKey): string {
    return `${this.url}/${orgId}/${id}`;
  }
}

export function newWriteId(random: Random): string {
  return [0, 1, 2, 3].map(() => random.u32().toString(16).padStart(8, '0')).join('');
}

function keyOf(orgId: string, runId: string): DocumentKey {
  return { orgId: checkId('org id', orgId), id: checkId('run id', runId) };
}

function tokenOf({ revision, writeId }: DocumentState): string {
  return `${revision}.${writeId}`;
}

function stateOf(token: string): DocumentState {
  const match = /^([0-9]{1,15})\.([^.]+)$/.exec(token);
  if (match === null) throw new InputError(`${JSON.stringify(token)} is not a token of this run store.`);
  return { revision: Number(match[1]), writeId: match[2]! };
}

function answerOf(document: Document, answer: DocumentWrite): RunWrite {
  return answer.outcome === 'written' ? { outcome: 'written', token: tokenOf(document) } : answer;
}

function never(): AbortSignal {
  return new AbortController().signal;
}
