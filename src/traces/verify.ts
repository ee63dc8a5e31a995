import { throwIfAborted } from '../core/clock.ts';
import { errorMessage, isRunfoldError } from '../core/errors.ts';
import type { Run, Trace } from '../runs/run.ts';
import { traceOpen } from '../runs/traces.ts';
import { ArchiveReader } from './archive-read.ts';
import { listChunks } from './chunk-list.ts';
import { readChunk } from './chunk-read.ts';
import { segmentsOf } from './chunks.ts';
import type { TraceContext } from './context.ts';

export interface VerifiedTrace {
  run_id: string;
  attempt: number;
  status: Trace['status'];
  /** Of the log, gaps included. */
  bytes: number;
  /** What is wrong; an archive that was kept for as long as the policy says is not. */
  problems: string[];
  expired: boolean;
  /** Bytes that were missing when it was archived, or that have not come yet: what is there may verify nevertheless. */
  gap_bytes: number;
}

/**
 * Reads every byte of a run's logs and holds it against every checksum there is. Archived: 3 GET per attempt; live: 1
 * LIST per 1000 chunks and 1 GET each; a gap of it is a problem once output is not taken any more.
 */
export async function verifyTraces(
  context: TraceContext,
  run: Run,
  signal?: AbortSignal,
): Promise<VerifiedTrace[]> {
  const verified: VerifiedTrace[] = [];
  for (const [key, trace] of Object.entries(run.traces ?? {})) {
    const one = { run_id: run.run_id, attempt: Number(key), status: trace.status, expired: false };
    const gap_bytes = trace.archive?.gap_bytes ?? 0;
    verified.push(
      trace.archive === null
        ? { ...one, gap_bytes, ...(await verifyChunks(context, run, Number(key), signal)) }
        : { ...one, gap_bytes, ...(await verifyArchive(context, run.org_id, trace.archive, signal)) },
    );
  }
  return verified;
}

type Verdict = Pick<VerifiedTrace, 'bytes' | 'problems'> & { expired?: boolean; gap_bytes?: number };

async function verifyArchive(
  context: TraceContext,
  orgId: string,
  archive: NonNullable<Trace['archive']>,
  signal: AbortSignal | undefined,
): Promise<Verdict> {
  const { bytes, lines } = archive;
  try {
    const text = await new ArchiveReader(context, orgId, archive).whole(signal);
    const told = linesOf(text);
    const problems = told === lines ? [] : [`it has ${told} lines, the run says ${lines}`];
    // A range takes another way: the seek table and single frames.
    if (archive.frame_bytes !== null && bytes > 0) {
      const whole = { ...context, limits: { ...context.limits, traceWholeBytesMax: 0 } };
      const last = await new ArchiveReader(whole, orgId, archive).read(bytes - 1, bytes, signal);
      if (last[0] !== text[bytes - 1]) problems.push('a range says something else than the whole');
    }
    return { bytes, problems };
  } catch (error) {
    throwIfAborted(signal);
    if (isRunfoldError(error) && error.code === 'TRACE_EXPIRED')
      return { bytes, problems: [], expired: true };
    return { bytes, problems: [errorMessage(error)] };
  }
}

async function verifyChunks(
  context: TraceContext,
  run: Run,
  attempt: number,
  signal: AbortSignal | undefined,
): Promise<Verdict> {
  const range = { chunkBytesMax: context.limits.traceChunkBytesMax };
  const chunks = await listChunks(context.store, run.org_id, run.run_id, attempt, range, signal);
  const segments = segmentsOf(chunks);
  const gaps = segments.filter(({ chunk }) => chunk === null);
  const isOpen = traceOpen(run, attempt, context.recorder.now()).outcome !== 'refused';
  const problems = isOpen
    ? []
    : gaps.map(({ offset, bytes }) => `${bytes} bytes are missing at offset ${offset}`);
  for (const chunk of chunks) {
    try {
      if ((await readChunk(context, chunk, signal)) === null) problems.push(`${chunk.key} is gone`);
    } catch (error) {
      throwIfAborted(signal);
      problems.push(errorMessage(error));
    }
  }
  const last = segments.at(-1);
  const gap_bytes = gaps.reduce((sum, { bytes }) => sum + bytes, 0);
  return { bytes: last === undefined ? 0 : last.offset + last.bytes, problems, gap_bytes };
}

/** As the archiver counts: a last line without its end is one. */
export function linesOf(text: Uint8Array): number {
  let lines = 0;
  for (let at = text.indexOf(0x0a); at >= 0; at = text.indexOf(0x0a, at + 1)) lines++;
  return lines + (text.length > 0 && text.at(-1) !== 0x0a ? 1 : 0);
}
