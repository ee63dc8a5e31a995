import { closeSync, openSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { printError } from '../src/cli/run.ts';
import { errorMessage, InputError, isRunfoldError } from '../src/core/errors.ts';
import { LATENCY_PROFILES, type LatencyProfile, parseLatencyProfile } from '../src/store/latency.ts';
import { circumstancesOf, machine } from './support/circumstances.ts';
import { readJsonFile } from './support/json-file.ts';
import { readPrices } from './support/prices.ts';
import { startBenchProgress } from './support/progress.ts';
import type { Report, Scenario } from './support/report.ts';

interface Entry {
  /** Null: a part of another scenario, run as a process of its own. */
  about: string | null;
  /** Further words of the command line are its own. */
  takesFiles?: true;
  /** Has something to profile. */
  profiles?: true;
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
    profiles: true,
    load: () => import('./scale.ts'),
  },
  'cold-refresh': {
    about: 'One cold refresh against what one would use instead',
    profiles: true,
    load: () => import('./cold-refresh.ts'),
  },
  service: {
    about: 'The HTTP service under load: requests per second, p99; warm and cold orgs',
    load: () => import('./service.ts'),
  },
  backfill: {
    about: 'Runs per second that one backfill process indexes',
    profiles: true,
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
    takesFiles: true,
    load: () => import('./compare.ts'),
  },
  plots: {
    about: 'SVG and one HTML page of kept results: plots RESULT.json... [DIRECTORY]',
    takesFiles: true,
    load: () => import('./plots.ts'),
  },
  table: {
    about: 'A kept result as Markdown: table RESULT.json [all | some | readme]',
    takesFiles: true,
    load: () => import('./table.ts'),
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

  --out FILE        the report as JSON in a file, for keeping, beside the table on the terminal
  --json            the report as JSON on stdout; npm is silent with npm run -s bench
  --quick           smaller and fewer: to see that it works, not to quote
  --full            also what takes half an hour
  --profile         CPU profiles into bench/out/, and their top functions: ${Object.entries(SCENARIOS)
    .flatMap(([name, { profiles }]) => (profiles ? name : []))
    .join(', ')}
  --latency NAME    none, lan, gcs (default), or a JSON file of measured percentiles
  --prices FILE     a price table like bench/prices.json, which is the default
  --seed N          default 1
`;

const USAGE_HINT = 'npm run bench -- --help lists scenarios and options.';

async function main(): Promise<number> {
  const { values, positionals } = parsed();
  const [name, ...args] = positionals;
  const scenario = name !== undefined && Object.hasOwn(SCENARIOS, name) ? SCENARIOS[name] : undefined;
  if (values.help === true || name === undefined) {
    process.stdout.write(HELP);
    return 0;
  }
  if (scenario === undefined) throw new InputError(`There is no scenario "${name}".`, { hint: USAGE_HINT });
  if (args.length > 0 && scenario.takesFiles !== true) {
    throw new InputError(`${name} takes no further words: "${args.join(' ')}".`, { hint: USAGE_HINT });
  }
  if (values.profile === true && scenario.profiles !== true) {
    throw new InputError(`${name} has no --profile.`, { hint: USAGE_HINT });
  }
  if (values.out !== undefined) checkOut(values.out);
  const child = childOptions(name, scenario, values.options);
  const latency = latencyProfile(values.latency);
  const seed = seedOf(values.seed);
  const prices = readPrices(values.prices);
  const { run } = await scenario.load();
  const progress = startBenchProgress(name);
  exitOnSignals(progress.stop);
  const began = performance.now();
  const report = await run({
    quick: values.quick ?? false,
    full: values.full ?? false,
    profile: values.profile ?? false,
    latency,
    prices,
    seed,
    args,
    child,
    onProgress: progress.update,
  }).finally(() => progress.stop());
  const tookSeconds = Math.round((performance.now() - began) / 1_000);
  // What was made of kept results has been measured elsewhere: latency and prices are told there.
  const circumstances = scenario.takesFiles === true ? {} : circumstancesOf({ latency, prices, seed });
  const kept = { scenario: name, ...circumstances, took_seconds: tookSeconds, ...report };
  const json = `${JSON.stringify(kept, null, 2)}\n`;
  if (values.out !== undefined) keep(values.out, json);
  process.stdout.write(values.json === true ? json : show(report));
  return 0;
}

/** Before minutes are spent: the file must be one that can be written. */
function checkOut(path: string): void {
  try {
    closeSync(openSync(path, 'a'));
  } catch (cause) {
    throw new InputError(`--out ${path} cannot be written: ${(cause as NodeJS.ErrnoException).code}.`, {
      hint: 'Name a file in a folder that exists.',
      cause,
    });
  }
}

/** A report that has been measured is not lost to a full disk. */
function keep(path: string, json: string): void {
  try {
    writeFileSync(path, json);
  } catch (error) {
    process.stderr.write(
      `${path} could not be written, so the report follows: ${errorMessage(error)}\n${json}`,
    );
    process.exitCode = 1;
  }
}

/** Ends by the way of every end, on which folders are removed and servers stopped: a signal alone would leave them. */
function exitOnSignals(stop: () => void): void {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    process.once(signal, () => {
      stop();
      process.exit(code);
    });
  }
}

function parsed() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        json: { type: 'boolean' },
        out: { type: 'string' },
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
  } catch (cause) {
    throw new InputError(errorMessage(cause), { hint: USAGE_HINT, cause });
  }
}

/** `--options` is between a bench and the processes that it starts. */
function childOptions(name: string, { about }: Entry, text: string | undefined): unknown {
  if ((about === null) === (text === undefined)) {
    throw new InputError(
      `${name} ${about === null ? 'is started by its bench only' : 'takes no --options'}.`,
      {
        hint: USAGE_HINT,
      },
    );
  }
  try {
    return text === undefined ? null : JSON.parse(text);
  } catch (cause) {
    throw new InputError('--options is no JSON.', { hint: USAGE_HINT, cause });
  }
}

function seedOf(text: string): number {
  const seed = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(seed)) return seed;
  throw new InputError(`--seed ${text} is no whole number from 0 on.`, { hint: 'Say --seed 1.' });
}

function latencyProfile(name: string): LatencyProfile {
  if (Object.hasOwn(LATENCY_PROFILES, name)) return LATENCY_PROFILES[name as keyof typeof LATENCY_PROFILES];
  const hint = `--latency is ${Object.keys(LATENCY_PROFILES).join(', ')}, or a JSON file of measured percentiles.`;
  return parseLatencyProfile(name, readJsonFile(name, hint));
}

function show({ title, head, rows, notes, text }: Report): string {
  if (text !== undefined) return text;
  const table = new Table({
    head,
    colAligns: head.map((_, i) => (i === 0 ? 'left' : 'right')),
    style: { head: [], border: [] },
  });
  table.push(...rows);
  return `${title} (${machine()})\n${table}\n${notes.map((note) => `${note}\n`).join('')}`;
}

// Who reads only the first lines, as `head` does, closes the pipe.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

main().then(
  (code) => {
    process.exitCode ??= code;
  },
  (error: unknown) => {
    process.exitCode = printError(error, !isRunfoldError(error));
  },
);
