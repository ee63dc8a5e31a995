import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { z } from 'zod';
import { mapParallel } from '../src/core/concurrency.ts';
import { crc32c } from '../src/core/crc32c.ts';
import { CorruptError, errorMessage, InputError } from '../src/core/errors.ts';
import { isId } from '../src/core/ids.ts';
import { uuidv7 } from '../src/core/uuid.ts';
import type { Run } from '../src/runs/run.ts';
import { traceOf } from '../src/runs/traces.ts';
import { isOwnKey } from '../src/store/keys.ts';
import type { TraceContext } from '../src/traces/context.ts';
import { linesOf, verifyTraces } from '../src/traces/verify.ts';
import { changeWork } from '../src/traces/work.ts';
import { FrameWriter, inflateAll } from '../src/traces/zstd.ts';
import { entryOf, type Settled, withClaims, withSettled } from './archive-entries.ts';
import { commitArchive, putArchive } from './archive-trace.ts';

/** Digits, or a number of JSON: ` 1 `, `1e3` and `0x2A` are more likely another column than meant. */
const whole = z
  .union(
    [
      z.number(),
      z
        .string()
        .regex(/^\d{1,15}$/, 'is not a whole number')
        .transform(Number),
    ],
    {
      error: 'is not a whole number',
    },
  )
  .pipe(z.number('is not a whole number').int().nonnegative());
const given = <T extends z.ZodType>(schema: T) =>
  z.preprocess((value) => (value === '' || value === null ? undefined : value), schema.optional());

/** A row of somebody's table of archived logs. Columns that are not named here are passed over. */
export const traceRowSchema = z.object({
  run_id: z.string().refine((id) => isId(id), { error: 'is not a run id' }),
  attempt: given(whole.pipe(z.number().positive())).transform((attempt) => attempt ?? 1),
  /** Key of the log in the same store, or the store's URL and the key: zstd, gzip, or as it is. */
  uri: z.string().min(1),
  bytes: given(whole),
  lines: given(whole),
  /** Of the text, or of the object. */
  sha256: given(z.string().regex(/^[0-9a-fA-F]{64}$/)),
  /** Of the object. */
  crc32c: given(whole),
});
export type TraceRow = z.infer<typeof traceRowSchema>;

/** `imported`: is, or with `dryRun` would be; `known`: it was there already. */
export interface RowOutcome {
  outcome: 'imported' | 'known' | 'rejected';
  reason: string | null;
}

export interface ImportOptions {
  dryRun?: boolean | undefined;
  /** Of a dry run in several calls: what it would have imported, SHA-256 by log. The caller hands the same map to each. */
  planned?: Map<string, string> | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Takes over logs that others archived: reads and checks each against its row, and archives it as runfold does, so
 * that ranges, retention and checks are as for all others. The old objects stay. Doing it again changes nothing. Per
 * row 2 GET, 2 PUT and 3 HEAD; per call 2 GET and 2 PUT of the work list.
 */
export async function importTraces(
  context: TraceContext,
  orgId: string,
  rows: readonly TraceRow[],
  { dryRun = false, planned = new Map(), signal }: ImportOptions = {},
): Promise<RowOutcome[]> {
  const { recorder, random, limits, clock } = context;
  const now = recorder.now();
  const by = uuidv7(now, random);
  const names = rows.map(() => uuidv7(recorder.now(), random));
  const claims = new Map<string, { by: string; names: string[] }>();
  for (const [i, { run_id }] of rows.entries()) {
    const claim = claims.get(run_id) ?? { by, names: [] };
    claim.names.push(names[i]!);
    claims.set(run_id, claim);
  }
  const putBefore = clock.monotonic() + limits.traceClaimMs;
  const work = dryRun
    ? null
    : await changeWork(context, orgId, now, (before) => withClaims(before, claims, now, limits), signal);
  const forget = new Set(names);
  const importOne = async (i: number, stop: AbortSignal): Promise<RowOutcome> => {
    const row = rows[i]!;
    if (work !== null && entryOf(work, row.run_id)?.claim?.by !== by)
      return rejected('its run is being archived; repeat the import later');
    const name = names[i]!;
    const put = { name, putBefore, onPut: () => forget.delete(name) };
    return importRow(context, orgId, row, dryRun ? planned : put, stop).then(
      (outcome) => {
        if (outcome.outcome === 'imported') forget.add(name);
        return outcome;
      },
      (error: unknown) => {
        if (stop.aborted) throw error;
        return rejected(errorMessage(error));
      },
    );
  };
  const outcomes: RowOutcome[] = [];
  await mapParallel(
    byLog(rows),
    limits.traceParallel,
    async (sameLog, stop) => {
      for (const i of sameLog) outcomes[i] = await importOne(i, stop);
    },
    signal,
  );
  if (work !== null) {
    const settled = new Map<string, Settled>();
    for (const [runId, claim] of claims)
      settled.set(runId, { ...claim, forget, outcome: { kind: 'released', next_at: 0 } });
    const settle = (before: typeof work) =>
      withSettled(before, settled, before.cursor, recorder.now(), limits);
    await changeWork(context, orgId, recorder.now(), settle, signal);
  }
  return outcomes;
}

/** Numbers of rows. Those of one log come one after the other: the first is imported, the others meet it. */
function byLog(rows: readonly TraceRow[]): number[][] {
  const logs = new Map<string, number[]>();
  for (const [i, row] of rows.entries()) logs.set(logOf(row), [...(logs.get(logOf(row)) ?? []), i]);
  return [...logs.values()];
}

function logOf({ run_id, attempt }: TraceRow): string {
  return `${run_id} ${attempt}`;
}

type Put = { name: string; putBefore: number; onPut: () => void };

/** `put` a map: only a look, which notes there what it would have imported. */
async function importRow(
  context: TraceContext,
  orgId: string,
  row: TraceRow,
  put: Put | Map<string, string>,
  signal: AbortSignal,
): Promise<RowOutcome> {
  const run = (await context.runs.read(orgId, row.run_id, signal))?.run ?? null;
  if (run === null || run.deleted_at !== null) return rejected('there is no such run in this org');
  if (row.attempt > run.attempt) return rejected(`the run has no attempt ${row.attempt}`);
  const trace = traceOf(run, row.attempt);
  if (trace !== null && trace.archive === null) return rejected('its log is live here');
  const text = await textOf(context, row, signal);
  if (text === null) return rejected(`${row.uri} is not there`);
  const sha256 = createHash('sha256').update(text).digest('hex');
  const there = trace !== null ? trace.archive?.sha256 : put instanceof Map ? put.get(logOf(row)) : undefined;
  if (trace !== null || there !== undefined) {
    return there === sha256
      ? { outcome: 'known', reason: null }
      : rejected('another log of the attempt is archived here');
  }
  if (put instanceof Map) {
    put.set(logOf(row), sha256);
    return { outcome: 'imported', reason: null };
  }
  const writer = new FrameWriter(context.limits.traceFrameBytes);
  await writer.add(text);
  const { bytes, lines } = writer;
  const assembled = {
    ...(await writer.end()),
    bytes,
    lines,
    gaps: [],
    conflicts: 0,
    used: [],
    isReadable: true,
  };
  const archive = await putArchive(context, { run, attempt: row.attempt, ...put }, assembled, signal);
  const event = { type: 'trace_archived', attempt: row.attempt, archive, imported: true } as const;
  await commitArchive(context, { run, ...put }, event, signal);
  return { outcome: 'imported', reason: null };
}

/** The log that a row names, once all that the row says of it is true; null: it is not there. Throws where it is not true. */
async function textOf(
  { store, limits }: TraceContext,
  row: TraceRow,
  signal: AbortSignal | undefined,
): Promise<Uint8Array | null> {
  const key = row.uri.startsWith(`${store.url}/`) ? row.uri.slice(store.url.length + 1) : row.uri;
  if (/^[a-z][a-z0-9+.-]*:/.test(key)) throw new InputError(`${row.uri} is not in this store`);
  // The store is shared: what runfold keeps may be the log of any org.
  if (isOwnKey(key))
    throw new InputError(`${key} belongs to runfold itself: a log that is imported lies elsewhere`);
  const meta = await store.head(key, { signal });
  if (meta === null) return null;
  if (meta.sizeBytes > limits.traceBytesMax) throw new InputError(`${key} is larger than a log may be`);
  const got = await store.get(key, { signal });
  if (got.outcome !== 'found') return null;
  const text = await unpacked(key, got.body, limits.traceBytesMax);
  const sums = [got.body, text].map((bytes) => createHash('sha256').update(bytes).digest('hex'));
  const wrong = [
    row.bytes !== undefined && row.bytes !== text.length && `bytes: ${text.length}`,
    row.lines !== undefined && row.lines !== linesOf(text) && `lines: ${linesOf(text)}`,
    row.crc32c !== undefined && row.crc32c !== crc32c(got.body) && `crc32c: ${crc32c(got.body)}`,
    row.sha256 !== undefined && !sums.includes(row.sha256.toLowerCase()) && `sha256: ${sums[1]}`,
  ].filter((one) => one !== false);
  if (wrong.length > 0) throw new InputError(`${key} is not what the row says (${wrong.join(', ')})`);
  return text;
}

/** By its first bytes. */
async function unpacked(key: string, body: Uint8Array, bytesMax: number): Promise<Uint8Array> {
  const view = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (view.length >= 4 && view.readUInt32LE(0) === 0xfd2fb528) return inflateAll(key, body, bytesMax);
  if (view.length >= 2 && view.readUInt16LE(0) === 0x8b1f) {
    return promisify(gunzip)(body, { maxOutputLength: bytesMax }).catch((cause: unknown) => {
      throw new InputError(`${key} cannot be unpacked`, { cause });
    });
  }
  return body;
}

/**
 * Whether a row says nothing any more that runfold does not: its attempt's log is archived here, reads whole against
 * every checksum, and is the log that the row names. That is read as an import reads it; where it is gone, only the
 * SHA-256 of its text can prove that it was the same. At most 6 GET and 1 HEAD.
 */
export async function isSuperseded(
  context: TraceContext,
  orgId: string,
  row: TraceRow,
  signal?: AbortSignal,
): Promise<boolean> {
  const run: Run | null = (await context.runs.read(orgId, row.run_id, signal))?.run ?? null;
  const archive =
    run === null || run.deleted_at !== null ? null : (traceOf(run, row.attempt)?.archive ?? null);
  if (run === null || archive === null || archive.status !== 'archived') return false;
  if (row.bytes !== undefined && row.bytes !== archive.bytes) return false;
  if (row.lines !== undefined && row.lines !== archive.lines) return false;
  if ((await sha256Of(context, row, signal)) !== archive.sha256) return false;
  const verified = await verifyTraces(context, run, signal);
  return verified.some(
    ({ attempt, problems, expired }) => attempt === row.attempt && problems.length === 0 && !expired,
  );
}

/** Of the text that the row names; null: nothing tells, or the row is one that an import rejects. */
async function sha256Of(
  context: TraceContext,
  row: TraceRow,
  signal: AbortSignal | undefined,
): Promise<string | null> {
  try {
    const text = await textOf(context, row, signal);
    if (text === null) return row.sha256?.toLowerCase() ?? null;
    return createHash('sha256').update(text).digest('hex');
  } catch (error) {
    if (error instanceof InputError || error instanceof CorruptError) return null;
    throw error;
  }
}

function rejected(reason: string): RowOutcome {
  return { outcome: 'rejected', reason };
}
