import { realpathSync } from 'node:fs';
import type { Command } from 'commander';
import { type Migrated, migrate } from '../../../compactor/migrate.ts';
import { systemClock } from '../../core/clock.ts';
import { InputError } from '../../core/errors.ts';
import { defaultLimits } from '../../core/limits.ts';
import { openRunStore } from '../../runs/open.ts';
import type { RunStore } from '../../runs/run-store.ts';
import { SqlRunStore } from '../../runs/sql-run-store.ts';
import { MemoryStore } from '../../store/memory.ts';
import { outputOf } from '../context.ts';
import { count, counted, plain } from '../format.ts';
import { type GlobalOptions, orgsOption, positiveInteger } from '../options.ts';
import type { Output } from '../output.ts';
import { EXIT, Exit } from '../run.ts';

interface MigrateCommandOptions extends GlobalOptions {
  from: string;
  to: string;
  org?: string[];
  rate?: number;
  dryRun?: boolean;
  verify?: boolean;
}

const TOLD_MAX = 20;

export function migrateCommand(program: Command, signal: AbortSignal): void {
  program
    .command('migrate')
    .description('copy canonical runs from one run store to another; doing it again changes nothing')
    .requiredOption('--from <url>', 'file:DIR, gs://bucket[/prefix], sqlite:FILE or postgres://…')
    .requiredOption('--to <url>', 'the same')
    .addOption(orgsOption('only this org; may be repeated (default: every org)'))
    .option('--rate <n>', 'runs per second, at most', positiveInteger)
    .option('--verify', 'compare both ways by revision and hash; write nothing')
    .option('--dry-run', 'tell what would be copied; change nothing')
    .action(async (_: unknown, command: Command) => {
      const options = command.optsWithGlobals<MigrateCommandOptions>();
      if (options.from === options.to) throw sameStore();
      const good = await between(options, command, signal);
      if (!good) throw new Exit(EXIT.problem);
    });
}

async function between(
  options: MigrateCommandOptions,
  command: Command,
  signal: AbortSignal,
): Promise<boolean> {
  const output = outputOf(command);
  const store = new MemoryStore();
  const { endpoint } = options;
  const from = await opened('--from', () =>
    openRunStore(options.from, { store, endpoint, missing: 'refuse' }),
  );
  try {
    for (const orgId of options.org ?? []) await mustHave(from, orgId, signal);
    // A dry run makes nothing: a target that is not there yet has no runs.
    const missing = options.verify ? 'refuse' : options.dryRun ? 'empty' : 'create';
    const to = await opened('--to', () => openRunStore(options.to, { store, endpoint, missing }));
    if ((await placeOf(from, signal)) === (await placeOf(to, signal))) {
      await to.close();
      throw sameStore();
    }
    const progress = output.progress('Migrating', (runs) => counted(runs, 'run'));
    try {
      const done: Migrated[] = [];
      for (const orgId of options.org ?? [undefined]) {
        const before = done.reduce((sum, { scanned }) => sum + scanned, 0);
        const { verify = false, dryRun = false, rate } = options;
        done.push(
          await migrate(
            from,
            to,
            { clock: systemClock, limits: defaultLimits },
            {
              orgId,
              dryRun,
              verifyOnly: verify,
              ratePerSecond: rate,
              signal,
              onProgress: ({ scanned }) => progress.update(before + scanned),
            },
          ),
        );
      }
      progress.stop();
      return report(output, done, options);
    } finally {
      progress.stop();
      await to.close();
    }
  } finally {
    await from.close();
  }
}

/** Hints name the options that other commands have; here they are those that were given. */
async function opened(option: string, open: () => Promise<RunStore>): Promise<RunStore> {
  try {
    return await open();
  } catch (error) {
    if (!(error instanceof InputError) || error.hint === undefined) throw error;
    const { message, details, cause } = error;
    const hint = error.hint.replace(/^Check --(store|runs)\b.*$/, `Check ${option}.`);
    throw new InputError(message, { hint, details, cause });
  }
}

/** The place itself: URLs may spell it in many ways. */
async function placeOf(runs: RunStore, signal: AbortSignal): Promise<string> {
  if (runs instanceof SqlRunStore) return runs.identity(signal);
  return runs.url.startsWith('file:') ? `file:${realpathSync(runs.url.slice('file:'.length))}` : runs.url;
}

function sameStore(): InputError {
  return new InputError('--from and --to name the same run store.', {
    hint: 'Name the new one as --to.',
  });
}

async function mustHave(from: RunStore, orgId: string, signal: AbortSignal): Promise<void> {
  for await (const _ of from.scan({ orgId, signal })) return;
  throw new InputError(`${from.url} has no run of org ${orgId}.`, { hint: 'Check --org and --from.' });
}

function report(
  output: Output,
  done: readonly Migrated[],
  { dryRun = false, verify = false }: MigrateCommandOptions,
): boolean {
  const sum = (pick: (one: Migrated) => number) => done.reduce((total, one) => total + pick(one), 0);
  const all = {
    scanned: sum((one) => one.scanned),
    copied: sum((one) => one.copied),
    unchanged: sum((one) => one.unchanged),
    newer: sum((one) => one.newer),
    conflicts: done.flatMap(({ conflicts }) => conflicts),
    missing: done.flatMap(({ missing }) => missing),
    extra: done.flatMap(({ extra }) => extra),
    failed: done.flatMap(({ failed }) => failed),
    flat: sum((one) => one.flat),
  };
  output.value({ dry_run: dryRun, verify, ...all });
  const told = [
    ...all.conflicts.map(({ run, revision }) => `conflict: ${run} differs at revision ${revision}`),
    ...all.missing.map((run) => `missing: ${run} is not in the target, or older`),
    ...all.extra.map((run) => `extra: ${run} is not in the source`),
    ...all.failed.map(({ key, reason }) => `failed: ${key}: ${reason}`),
  ];
  for (const line of told.slice(0, TOLD_MAX)) output.note(plain(line));
  if (told.length > TOLD_MAX) output.note(`${count(told.length - TOLD_MAX)} more; --json lists all`);
  const copied = verify ? '' : `${count(all.copied)} ${dryRun ? 'to copy' : 'copied'}, `;
  output.line(
    `${counted(all.scanned, 'run')}: ${copied}${count(all.unchanged)} the same, ${count(all.newer)} newer in the target, ${counted(told.length, 'problem')}`,
  );
  if (all.flat > 0) {
    const keys = counted(all.flat, 'flat key');
    output.note(`${keys} of older deployments not migrated; \`runfold backfill\` brings them in first`);
  }
  return told.length === 0;
}
