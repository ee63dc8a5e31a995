import { statSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Command } from 'commander';
import { systemClock } from '../../core/clock.ts';
import { InputError } from '../../core/errors.ts';
import { defaultLimits } from '../../core/limits.ts';
import { systemRandom } from '../../core/random.ts';
import { LATENCY_PROFILES, OPERATIONS } from '../../store/latency.ts';
import { type Probe, type ProbePlan, planProbe, probeStore, Stopwatch } from '../../store/probe.ts';
import { withSession } from '../context.ts';
import { bytes, count, counted, duration } from '../format.ts';
import { positiveInteger } from '../options.ts';
import type { Output } from '../output.ts';

/** Documented, not measured: one change of a name per second. Other adapters have no such limit. */
const GCS_NAME_REST_MS = LATENCY_PROFILES.gcs.name_interval_ms;

interface ProbeCommandOptions {
  samples: number;
  out?: string;
  dryRun?: boolean;
}

export function probeCommand(program: Command, signal: AbortSignal): void {
  program
    .command('probe')
    .description("measure a store's latency and bandwidth with objects of its own, which it removes")
    .option('--samples <n>', 'requests of each operation, one after another', positiveInteger, 100)
    .option('--out <file>', 'write the percentiles there, as the bench reads them with --latency FILE')
    .option('--dry-run', 'tell what it would send; send nothing')
    .action(async (options: ProbeCommandOptions, command: Command) => {
      const { samples, out, dryRun = false } = options;
      checkSamples(samples);
      if (out !== undefined) checkFile(out);
      const plan = planProbe(samples);
      const watch = new Stopwatch(systemClock);
      await withSession(
        command,
        signal,
        async ({ session, output }) => {
          const { store, limits } = session;
          if (dryRun) return showPlan(output, store.url, plan);
          const progress = output.progress('Probing', count);
          const probe = await probeStore(store, watch, {
            samples,
            nameRestMs: store.url.startsWith('gs:') ? GCS_NAME_REST_MS : 0,
            clock: systemClock,
            random: systemRandom,
            limits,
            signal,
            onProgress: progress.update,
          }).finally(progress.stop);
          if (out !== undefined) writeFileSync(out, `${JSON.stringify(probe.profile, null, 2)}\n`);
          output.value({ store: store.url, dry_run: false, requests: plan, ...probe, file: out ?? null });
          show(output, probe, out);
        },
        { wrap: (store) => watch.around(store) },
      );
    });
}

function checkSamples(samples: number): void {
  if (samples <= defaultLimits.probeSamplesMax) return;
  throw new InputError(`--samples ${samples} is more than ${defaultLimits.probeSamplesMax}.`);
}

/** Before anything is sent: minutes of measuring must not end in a mistyped path. */
function checkFile(path: string): void {
  const folder = dirname(resolve(path));
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    throw new InputError(`${folder} is no folder to write ${path} in.`);
  }
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw new InputError(`${path} is a folder.`);
}

function showPlan(output: Output, store: string, plan: ProbePlan): void {
  output.value({ store, dry_run: true, requests: plan });
  const requests = OPERATIONS.map((operation) => `${count(plan[operation])} ${operation.toUpperCase()}`);
  output.line(`Would send ${requests.join(', ')} to ${store}, all under probe/<uuid>/.`);
  output.line(`Bodies: ${bytes(plan.bytes_written)} up, ${bytes(plan.bytes_read)} down.`);
  output.line('Nothing was sent.');
}

function show(output: Output, probe: Probe, out: string | undefined): void {
  const ms = (value: number) => duration(value);
  output.table(
    [
      { head: 'FIRST BYTE', cell: (operation) => operation.toUpperCase() },
      { head: 'P50', cell: (operation) => ms(probe.first_byte_ms[operation].p50), align: 'right' },
      { head: 'P90', cell: (operation) => ms(probe.first_byte_ms[operation].p90), align: 'right' },
      { head: 'P99', cell: (operation) => ms(probe.first_byte_ms[operation].p99), align: 'right' },
      { head: 'MAX', cell: (operation) => ms(probe.first_byte_ms[operation].max), align: 'right' },
    ],
    [...OPERATIONS],
  );
  output.line();
  const rate = (value: number | null) => (value === null ? 'too quick to tell' : `${bytes(value)}/s`);
  output.line(`One stream: ${rate(probe.download)} down, ${rate(probe.upload)} up.`);
  output.line(`${counted(probe.first_byte_ms.get.samples, 'sample')} of each; its objects are removed.`);
  if (out !== undefined) output.line(`Written to ${out}: npm run bench -- cold-refresh --latency ${out}`);
}
