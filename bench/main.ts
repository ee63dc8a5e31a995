import { readFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { startProgress } from '../src/cli/progress.ts';
import { printError } from '../src/cli/run.ts';
import { isRunfoldError } from '../src/core/errors.ts';
import { LATENCY_PROFILES, type LatencyProfile, parseLatencyProfile } from '../src/store/latency.ts';
import { readPrices } from './support/prices.ts';
import type { Report, Scenario } from './support/report.ts';

interface Entry {
  /** Null: a part of another scenario, run as a process of its own. */
  about: string | null;
  load(): Promise<{ run: Scenario }>;
}

/** Every benchmark: a new one is a line here and a module that exports `run`. */
const SCENARIOS: Record<string, Entry> = {
  codec: {
    about: 'Parquet codecs: encode, decode and merge of a part, and its size',
    load: () => import('./codec.ts'),
  },
  scale: {
    about: 'What grows with an org and a bucket, beside the figures to reach',
    load: () => import('./scale.ts'),
  },
  'cold-refresh': {
    about: 'One cold refresh against what one would use instead',
    load: () => import('./cold-refresh.ts'),
  },
  service: {
    about: 'The HTTP service under load: requests per second, p99; warm and cold orgs',
    load: () => import('./service.ts'),
  },
  backfill: {
    about: 'Runs per second that one backfill process indexes',
    load: () => import('./backfill.ts'),
  },
  rivals: {
    about: 'Cold refresh over HTTP beside Delta Lake, SlateDB, PostgreSQL and DuckDB',
    load: () => import('./rivals.ts'),
  },
  'write-path': {
    about: 'Acknowledged appends by many writers, against two other ways to write',
    load: () => import('./write-path.ts'),
  },
  cost: {
    about: 'Dollars per refresh, per transition and per month, from counted requests',
    load: () => import('./cost.ts'),
  },
  traces: {
    about: 'Logs of runs: archiving, and what a range of one costs',
    load: () => import('./traces.ts'),
  },
  compare: {
    about: 'Two kept results of one scenario: compare OLD.json NEW.json',
    load: () => import('./compare.ts'),
  },
  plots: {
    about: 'SVG and one HTML page of kept results: plots RESULT.json... [DIRECTORY]',
    load: () => import('./plots.ts'),
  },
  'service:load': { about: null, load: () => import('./service/load.ts') },
  'scale:build': { about: null, load: () => import('./scale/build.ts') },
  'scale:loaded': { about: null, load: () => import('./scale/loaded.ts') },
};

const HELP = `Usage: npm run bench -- <scenario> [options]

Scenarios:
${Object.entries(SCENARIOS)
  .flatMap(([name, { about }]) => (about === null ? [] : `  ${name.padEnd(13)} ${about}`))
  .join('\n')}

  --json            the report as JSON on stdout, for keeping
  --quick           smaller and fewer: to see that it works, not to quote
  --full            also what takes half an hour
  --profile         CPU profiles into bench/out/, and their top functions
  --latency NAME    none, lan, gcs (default), or a JSON file of measured percentiles
  --prices FILE     a price table like bench/prices.json, which is the default
  --seed N          default 1
`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'boolean' },
      quick: { type: 'boolean' },
      full: { type: 'boolean' },
      profile: { type: 'boolean' },
      latency: { type: 'string', default: 'gcs' },
      prices: { type: 'string' },
      seed: { type: 'string', default: '1' },
      options: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  const [name, ...args] = positionals;
  const scenario = name === undefined ? undefined : SCENARIOS[name];
  if (values.help === true || scenario === undefined) {
    const asked = values.help === true || name === undefined;
    (asked ? process.stdout : process.stderr).write(asked ? HELP : `No scenario "${name}".\n\n${HELP}`);
    return asked ? 0 : 2;
  }
  const latency = latencyProfile(values.latency);
  const seed = Number(values.seed);
  if (!Number.isInteger(seed)) throw new Error(`--seed ${values.seed} is no whole number.`);
  const prices = readPrices(values.prices);
  const { run } = await scenario.load();
  let label = '';
  let shown = -1;
  const progress = startProgress(name!, (value) => `${value} ${label}`);
  const report = await run({
    quick: values.quick ?? false,
    full: values.full ?? false,
    profile: values.profile ?? false,
    latency,
    prices,
    seed,
    args,
    child: values.options === undefined ? null : JSON.parse(values.options),
    onProgress(done, total, what) {
      label = what;
      progress.update(done, total);
      // Without a terminal a line for each step, so that a log tells how far it is.
      if (process.stderr.isTTY || done === shown) return;
      shown = done;
      process.stderr.write(`${done} of ${total}: ${what}\n`);
    },
  }).finally(() => progress.stop());
  process.stdout.write(
    values.json === true
      ? `${JSON.stringify({ scenario: name, ...circumstances(latency, seed), ...report }, null, 2)}\n`
      : show(report),
  );
  return 0;
}

function latencyProfile(name: string): LatencyProfile {
  if (Object.hasOwn(LATENCY_PROFILES, name)) return LATENCY_PROFILES[name as keyof typeof LATENCY_PROFILES];
  return parseLatencyProfile(name, JSON.parse(readFileSync(name, 'utf8')));
}

/** What anybody needs to know who looks at figures later. */
function circumstances(latency: LatencyProfile, seed: number) {
  return {
    measured_at: new Date().toISOString(),
    machine: machine(),
    latency: latency.name,
    seed,
  };
}

function machine(): string {
  const gib = (totalmem() / 2 ** 30).toFixed(0);
  return `${process.platform} ${process.arch}, ${cpus().length} cores (${cpus()[0]?.model.trim()}), ${gib} GiB, Node ${process.versions.node}`;
}

function show({ title, head, rows, notes }: Report): string {
  const table = new Table({
    head,
    colAligns: head.map((_, i) => (i === 0 ? 'left' : 'right')),
    style: { head: [], border: [] },
  });
  table.push(...rows);
  return `${title} (${machine()})\n${table}\n${notes.map((note) => `${note}\n`).join('')}`;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.exitCode = printError(error, !isRunfoldError(error));
  },
);
