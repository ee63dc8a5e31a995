import { once } from 'node:events';
import { type Command, InvalidArgumentError } from 'commander';
import { mustExist } from '../../../compactor/backfill-source.ts';
import { InputError, isRunfoldError, RunfoldError } from '../../core/errors.ts';
import { checkId } from '../../core/ids.ts';
import type { Run, TraceGap } from '../../runs/run.ts';
import type { TraceSlice } from '../../traces/slice.ts';
import type { VerifiedTrace } from '../../traces/verify.ts';
import { type CommandContext, withSession } from '../context.ts';
import { bytes, count, counted, plain } from '../format.ts';
import { orgOption, positiveInteger } from '../options.ts';
import { EXIT, Exit } from '../run.ts';
import { addImportCommands } from './trace-import.ts';

interface RunOptions {
  org: string;
  run: string;
  attempt?: number;
}

interface VerifyOptions extends Pick<RunOptions, 'org'> {
  run?: string;
  allowPartial?: boolean;
}

export function traceCommand(program: Command, signal: AbortSignal): void {
  const trace = program.command('trace').description('logs of runs, live or archived');
  addRunOptions(trace.command('show').description('write a log, or a range of it, to standard output'))
    .option('--from <byte>', 'the first byte (default: 0)', byteOffset)
    .option('--to <byte>', 'up to this byte, exclusive (default: the end)', byteOffset)
    .action(async (options: RunOptions & { from?: number; to?: number }, command: Command) => {
      await withSession(command, signal, (context) =>
        inOrg(context, options.org, () => show(context, options)),
      );
    });
  addRunOptions(trace.command('follow').description('write a log as it grows, until it has ended'))
    .option('--from <byte>', 'the first byte (default: 0)', byteOffset)
    .action(async (options: RunOptions & { from?: number }, command: Command) => {
      await withSession(command, signal, (context) =>
        inOrg(context, options.org, () => follow(context, options)),
      );
    });
  trace
    .command('verify')
    .description('read logs whole, and hold every byte against every checksum')
    .addOption(orgOption())
    .option('--run <id>', 'only this run (default: all that left a log)', runId)
    .option('--allow-partial', 'logs that were archived with gaps, or lost, are told but no problem')
    .action(async (options: VerifyOptions, command: Command) => {
      const ok = await withSession(command, signal, (context) =>
        inOrg(context, options.org, () => verify(context, options)),
      );
      if (!ok) throw new Exit(EXIT.problem);
    });
  addImportCommands(trace, signal);
}

function addRunOptions(command: Command): Command {
  return command
    .addOption(orgOption())
    .requiredOption('--run <id>', 'the run', runId)
    .option('--attempt <n>', 'the attempt (default: the last that left a log)', positiveInteger);
}

/** A run is missing for another reason where there is no such org. */
async function inOrg<T>(
  { session, signal }: CommandContext,
  orgId: string,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (isRunfoldError(error) && error.code === 'RUN_NOT_FOUND') await mustExist(session, orgId, signal);
    throw error;
  }
}

function runId(value: string): string {
  return checkId('run id', value);
}

function byteOffset(value: string): number {
  if (/^\d{1,15}$/.test(value)) return Number(value);
  throw new InvalidArgumentError('It must be a whole number from 0 on.');
}

async function show(
  { session, output, signal }: CommandContext,
  { org, run, attempt, from = 0, to }: RunOptions & { from?: number; to?: number },
): Promise<void> {
  if (to !== undefined && to <= from) {
    throw new InputError(`--from ${from} does not lie before --to ${to}.`, { hint: '--to is exclusive.' });
  }
  const pieces: Uint8Array[] = [];
  let last: TraceSlice | null = null;
  let shown = 0;
  for await (const slice of session.traces.stream(org, run, { attempt, from, to }, signal)) {
    if (output.json) pieces.push(slice.body);
    else await write(slice.body);
    shown += slice.body.length;
    last = slice;
  }
  const { state } = last!;
  const text = Buffer.concat(pieces).toString('utf8');
  output.value({ org_id: org, ...state, offset: from, text });
  if (shown === 0 && from > 0)
    output.note(`nothing is at byte ${count(from)}: the log has ${counted(state.bytes, 'byte')}`);
  if (state.gap !== null) output.note(gapText(state.gap));
  const lost = state.gaps.reduce((sum, gap) => sum + gap.bytes, 0);
  if (state.status === 'lost') output.note(`the log is lost: ${lostText(lost)}`);
  for (const { offset, bytes: missing } of state.gaps)
    output.note(`${counted(missing, 'byte')} at offset ${count(offset)} are missing from the log`);
}

/** Chunks that are there and cannot be read leave a gap; of chunks that are gone nothing tells. */
function lostText(gapBytes: number): string {
  return gapBytes > 0 ? `none of its ${bytes(gapBytes)} could be read` : 'nothing of it was left';
}

function gapText({ offset, bytes: missing }: TraceGap): string {
  return `${counted(missing, 'byte')} at offset ${count(offset)} have not come, later ones have`;
}

async function follow(
  { session, output, signal }: CommandContext,
  { org, run, attempt, from = 0 }: RunOptions & { from?: number },
): Promise<void> {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  let gapAt: number | null = null;
  for await (const { body, offset, state } of session.traces.follow(org, run, { attempt, from }, signal)) {
    if (state.gap !== null && state.gap.offset !== gapAt) {
      gapAt = state.gap.offset;
      output.note(`${gapText(state.gap)}; waiting`);
    }
    if (body.length === 0) continue;
    if (output.json) {
      output.value({
        offset,
        attempt: state.attempt,
        status: state.status,
        text: decoder.decode(body, { stream: true }),
      });
    } else await write(body);
  }
}

/** As it is: a log may hold anything, and who pipes it wants every byte. */
async function write(body: Uint8Array): Promise<void> {
  if (body.length > 0 && !process.stdout.write(body)) await once(process.stdout, 'drain');
}

async function verify(
  { session, output, signal }: CommandContext,
  { org: orgId, run: runOnly, allowPartial = false }: VerifyOptions,
): Promise<boolean> {
  const progress = output.progress('Verifying', (runs) => counted(runs, 'run'));
  if (runOnly === undefined) await mustExist(session, orgId, signal);
  const verified: VerifiedTrace[] = [];
  let done = 0;
  try {
    const ids = runOnly === undefined ? runsWithTraces(session, orgId, signal) : [runOnly];
    for await (const id of ids) {
      const run = await readRun(session, orgId, id, runOnly !== undefined, signal);
      if (run !== null) verified.push(...(await session.traces.verify(run, signal)));
      progress.update(++done);
    }
  } finally {
    progress.stop();
  }
  const bad = verified.filter(({ problems }) => problems.length > 0);
  const [partial, lost] = (['partial', 'lost'] as const).map((status) =>
    verified.filter((one) => one.status === status),
  ) as [VerifiedTrace[], VerifiedTrace[]];
  const damaged = [...partial, ...lost];
  const waiting = verified.filter(
    (one) => one.status === 'live' && one.gap_bytes > 0 && one.problems.length === 0,
  );
  const ok = bad.length === 0 && (allowPartial || damaged.length === 0);
  const traces = verified.map((one) => ({ org_id: orgId, ...one }));
  output.value({ ok, partial: partial.length, lost: lost.length, traces });
  for (const { run_id, attempt, problems } of bad)
    for (const problem of problems) output.line(`${plain(run_id)}, attempt ${attempt}: ${plain(problem)}`);
  for (const { run_id, attempt, status, gap_bytes } of damaged) {
    const what = status === 'lost' ? lostText(gap_bytes) : `${bytes(gap_bytes)} are missing`;
    output.line(`${plain(run_id)}, attempt ${attempt}: ${status} when it was archived: ${what}`);
  }
  for (const { run_id, attempt, gap_bytes } of waiting)
    output.line(`${plain(run_id)}, attempt ${attempt}: ${bytes(gap_bytes)} have not come yet`);
  const size = verified.reduce((sum, one) => sum + one.bytes, 0);
  const expired = verified.filter((one) => one.expired).length;
  const gone = expired > 0 ? `, ${count(expired)} expired` : '';
  const told = damaged.length > 0 ? `, ${count(damaged.length)} partial or lost` : '';
  const problems = bad.reduce((sum, one) => sum + one.problems.length, 0);
  const where = problems > 0 ? ` in ${counted(bad.length, 'log')}` : '';
  output.line(
    `${counted(verified.length, 'log')} (${bytes(size)})${gone}${told}, ${counted(problems, 'problem')}${where}`,
  );
  if (!allowPartial && damaged.length > 0)
    output.note('what is partial or lost stays so; --allow-partial makes it no problem');
  return ok;
}

async function* runsWithTraces(session: CommandContext['session'], orgId: string, signal: AbortSignal) {
  const catalog = await session.catalog.org(orgId).refresh({ signal });
  for await (const row of catalog.runs({}, { signal })) if (row.trace !== null) yield row.run_id;
}

async function readRun(
  session: CommandContext['session'],
  orgId: string,
  id: string,
  required: boolean,
  signal: AbortSignal,
): Promise<Run | null> {
  const run = (await session.runs.read(orgId, id, signal))?.run ?? null;
  if (run !== null && run.deleted_at === null) return run;
  if (!required) return null;
  throw new RunfoldError('RUN_NOT_FOUND', `There is no run ${id} in org ${orgId}.`, {
    hint: 'Check the org and the run id.',
  });
}
