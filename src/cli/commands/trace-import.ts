import { rename, rm, stat, writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { mustExist } from '../../../compactor/backfill-source.ts';
import {
  importTraces,
  isSuperseded,
  type TraceRow,
  traceRowSchema,
} from '../../../compactor/trace-import.ts';
import type { TraceContext } from '../../traces/context.ts';
import { type CommandContext, withSession } from '../context.ts';
import { count, counted, plain } from '../format.ts';
import { orgOption } from '../options.ts';
import { type FileRow, openTable } from '../read-rows.ts';
import { EXIT, Exit } from '../run.ts';

interface TableOptions {
  org: string;
  dryRun?: boolean;
}

/** Rows that are told one by one; --json tells as many. */
const TOLD_MAX = 100;
const BATCH = 64;
const REQUIRED = ['run_id', 'uri'];

/** `trace import` and `trace purge`, for a table that kept the books before. */
export function addImportCommands(trace: Command, signal: AbortSignal): void {
  trace
    .command('import')
    .description('take over logs that a table of yours names; doing it again changes nothing')
    .argument('<file>', 'CSV with a header, or NDJSON: run_id, uri; attempt, bytes, lines, sha256, crc32c')
    .addOption(orgOption())
    .option('--dry-run', 'read and check everything; change nothing')
    .action(async (file: string, options: TableOptions, command: Command) => {
      const rejected = await withSession(command, signal, (context) => importFile(context, file, options));
      if (rejected > 0) throw new Exit(EXIT.problem);
    });
  trace
    .command('purge')
    .description('remove the rows from such a table whose logs are archived here and read whole')
    .argument('<file>', 'the table; what is left replaces it')
    .addOption(orgOption())
    .option('--dry-run', 'tell how many would go; leave the file alone')
    .action(async (file: string, options: TableOptions, command: Command) => {
      await withSession(command, signal, (context) => purgeFile(context, file, options));
    });
}

async function importFile(
  { session, output, signal }: CommandContext,
  file: string,
  { org, dryRun = false }: TableOptions,
): Promise<number> {
  const table = await openTable(file, REQUIRED);
  await mustExist(session, org, signal);
  const progress = output.progress('Importing', (rows) => counted(rows, 'row'));
  const report = { rows: 0, imported: 0, known: 0, rejected_total: 0 };
  const rejected: { line: number; reason: string }[] = [];
  const planned = new Map<string, string>();
  const reject = (line: number, reason: string) => {
    report.rejected_total++;
    if (rejected.length < TOLD_MAX) rejected.push({ line, reason });
  };
  try {
    for await (const batch of batchesOf(table.rows)) {
      const good: { line: number; row: TraceRow }[] = [];
      for (const { line, values } of batch) {
        report.rows++;
        const parsed = traceRowSchema.safeParse(values);
        if (parsed.success) good.push({ line, row: parsed.data });
        else reject(line, values === null ? 'it is not a row' : problemOf(parsed.error.issues[0]));
      }
      const rows = good.map(({ row }) => row);
      const outcomes = await importTraces(session satisfies TraceContext, org, rows, {
        dryRun,
        planned,
        signal,
      });
      for (const [i, { outcome, reason }] of outcomes.entries()) {
        if (outcome === 'rejected') reject(good[i]!.line, reason!);
        else report[outcome]++;
      }
      progress.update(report.rows);
    }
  } finally {
    progress.stop();
  }
  rejected.sort((a, b) => a.line - b.line);
  output.value({ org_id: org, dry_run: dryRun, ...report, rejected });
  for (const { line, reason } of rejected) output.note(`rejected: ${plain(file)}:${line}: ${plain(reason)}`);
  const { rows, imported, known, rejected_total } = report;
  const verb = dryRun ? 'would be imported' : 'imported';
  output.line(
    `${counted(rows, 'row')}: ${count(imported)} ${verb}, ${count(known)} known already, ${count(rejected_total)} rejected`,
  );
  return report.rejected_total;
}

async function purgeFile(
  { session, output, signal }: CommandContext,
  file: string,
  { org, dryRun = false }: TableOptions,
): Promise<void> {
  const table = await openTable(file, REQUIRED);
  await mustExist(session, org, signal);
  const progress = output.progress('Verifying', (rows) => counted(rows, 'row'));
  const kept: string[] = table.header === null ? [] : [table.header];
  const report = { rows: 0, purged: 0, kept: 0 };
  try {
    for await (const { raw, values } of table.rows) {
      const parsed = traceRowSchema.safeParse(values);
      const purge =
        parsed.success && (await isSuperseded(session satisfies TraceContext, org, parsed.data, signal));
      report.rows++;
      report[purge ? 'purged' : 'kept']++;
      if (!purge) kept.push(raw);
      progress.update(report.rows);
    }
  } finally {
    progress.stop();
  }
  if (!dryRun && report.purged > 0) await replaceFile(file, kept.map((line) => `${line}\n`).join(''));
  output.value({ org_id: org, dry_run: dryRun, ...report });
  const verb = dryRun ? 'would go' : 'removed';
  output.line(`${counted(report.rows, 'row')}: ${count(report.purged)} ${verb}, ${count(report.kept)} kept`);
}

/** Whole or not at all: a purge that dies leaves the table as it was. */
async function replaceFile(file: string, text: string): Promise<void> {
  const aside = `${file}.${process.pid}.tmp`;
  try {
    const { mode } = await stat(file);
    await writeFile(aside, text, { flush: true, mode });
    await rename(aside, file);
  } catch (error) {
    await rm(aside, { force: true });
    throw error;
  }
}

async function* batchesOf(rows: AsyncIterable<FileRow>): AsyncGenerator<FileRow[]> {
  let batch: FileRow[] = [];
  for await (const row of rows) {
    batch.push(row);
    if (batch.length < BATCH) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

function problemOf(issue: { path: PropertyKey[]; message: string } | undefined): string {
  return `${issue?.path.map(String).join('.') ?? 'it'}: ${issue?.message ?? 'not valid'}`;
}
