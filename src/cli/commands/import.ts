import type { Command } from 'commander';
import { type ImportReport, importEvents } from '../../openlineage/import.ts';
import type { Recorder } from '../../runs/recorder.ts';
import { type CommandContext, withSession } from '../context.ts';
import { bytes, count, counted, plain } from '../format.ts';
import { orgOption } from '../options.ts';
import { openEventFiles } from '../read-events.ts';
import { EXIT, Exit } from '../run.ts';

/** Rejected events that people are told one by one; --json tells more. */
const TOLD_MAX = 20;

export function importCommand(program: Command, signal: AbortSignal): void {
  program
    .command('import')
    .description('record what other systems say of their runs')
    .command('openlineage')
    .description('import OpenLineage events; doing it again changes nothing')
    .argument('<file...>', 'NDJSON or a JSON array; - is standard input')
    .addOption(orgOption())
    .action(async (files: string[], { org }: { org: string }, command: Command) => {
      const report = await withSession(command, signal, (context) => importFiles(context, org, files), {
        create: true,
      });
      // What was good is imported; that some was not is a problem all the same.
      if (report.rejected_total > 0) throw new Exit(EXIT.problem);
    });
}

async function importFiles(
  { session, output, signal }: CommandContext,
  orgId: string,
  paths: readonly string[],
): Promise<ImportReport> {
  const progress = output.progress('Importing', bytes);
  let sizeBytes: number | null = null;
  try {
    const files = await openEventFiles(paths, {
      signal,
      onBytes: (done) => progress.update(done, sizeBytes),
    });
    sizeBytes = files.sizeBytes;
    const report = await importEvents({
      source: files.events,
      orgId,
      record: recordInto(session.recorder),
      signal,
    });
    progress.stop();
    output.value(report);
    for (const { file, line, reason } of report.rejected.slice(0, TOLD_MAX)) {
      output.note(`rejected: ${plain(file)}:${line}: ${plain(reason)}`);
    }
    const untold = report.rejected_total - Math.min(report.rejected.length, TOLD_MAX);
    if (untold > 0) output.note(`rejected: ${counted(untold, 'more event')}; --json lists more of them`);
    output.line(summary(report, orgId));
    return report;
  } finally {
    progress.stop();
  }
}

function recordInto(recorder: Recorder): Parameters<typeof importEvents>[0]['record'] {
  return async (orgId, runId, observations, signal) => {
    const { changed } = await recorder.observe(orgId, runId, observations, signal);
    return changed ? 'changed' : 'unchanged';
  };
}

function summary(report: ImportReport, orgId: string): string {
  const { events, runs, changed, unchanged, job_events, dataset_events, rejected_total } = report;
  const others = job_events + dataset_events;
  const parts = [
    `${counted(runs, 'run')} (${count(changed)} changed, ${count(unchanged)} known already)`,
    ...(others > 0 ? [`${counted(others, 'event')} about no run`] : []),
    ...(rejected_total > 0 ? [`${counted(rejected_total, 'event')} rejected`] : []),
  ];
  return `${counted(events, 'event')} read for org ${orgId}: ${parts.join(', ')}`;
}
