import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { z } from 'zod';
import { defaultLimits } from '../src/core/limits.ts';
import { garbageListSchema } from '../src/manifest/garbage.ts';
import { manifestSchema } from '../src/manifest/manifest.ts';
import type { RunEvent, TaskEvent } from '../src/runs/events.ts';
import { transition } from '../src/runs/lifecycle.ts';
import { projectionSchema } from '../src/runs/projection.ts';
import {
  RUN_STATUSES,
  type Run,
  type RunStatus,
  runSchema,
  TASK_STATUSES,
  type TaskStatus,
} from '../src/runs/run.ts';
import { taskTransition } from '../src/runs/tasks.ts';
import type { Transition } from '../src/runs/transition.ts';
import { COLUMNS, type ColumnDefinition, isOptional } from '../src/snapshot/columns.ts';
import { METRICS, type MetricDefinition } from '../src/telemetry/table.ts';
import { START } from './support/fake-clock.ts';
import { archiveOf, must, ORG, runOf } from './support/runs.ts';

/** The docs against the code. `UPDATE_DOCS=1 npm test -- test/docs.test.ts` rewrites the generated tables. */
const root = resolve(import.meta.dirname, '..');
const run = promisify(execFile);
const read = (file: string) => readFile(join(root, file), 'utf8');

const DOCS = [
  'README.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  ...['docs', 'docs/adr'].flatMap((dir) =>
    readdirSync(join(root, dir))
      .filter((name) => name.endsWith('.md'))
      .map((name) => `${dir}/${name}`),
  ),
].filter((file) => existsSync(join(root, file)));

describe('generated tables', () => {
  it.each([
    ['docs/SCHEMA.md', 'columns', columnsTable],
    ['docs/SERVICE.md', 'metrics', metricsTable],
    ['docs/PROTOCOL.md', 'runs', runsTable],
    ['docs/PROTOCOL.md', 'tasks', tasksTable],
  ])('%s: %s is what the code says', async (file, name, table) => {
    const text = await read(file);
    const [before, rest] = split(text, `<!-- generated: ${name} -->\n`);
    const [block, after] = split(rest, '<!-- end -->');
    if (process.env.UPDATE_DOCS === '1') {
      await writeFile(
        join(root, file),
        `${before}<!-- generated: ${name} -->\n${table()}<!-- end -->${after}`,
      );
    } else expect(block).toBe(table());
  });
});

describe('SCHEMA.md', () => {
  it('has every field of the projection, in a row of its own', async () => {
    const rows = firstCells(await read('docs/SCHEMA.md'));
    expect(fieldsOf(projectionSchema).filter((field) => !rows.has(`\`${field}\``))).toEqual([
      // Named on the row of the list itself.
      'inputs.namespace',
      'inputs.name',
      'outputs.namespace',
      'outputs.name',
    ]);
  });
});

describe('MIGRATION.md', () => {
  it('shows the least that a flat run must have', async () => {
    const [, rest] = split(await read('docs/MIGRATION.md'), '```json\n');
    const example: unknown = JSON.parse(split(rest, '```')[0]);
    expect(runSchema.safeParse(example).error).toBeUndefined();
    for (const field of Object.keys(example as object)) {
      const { [field]: _, ...others } = example as Record<string, unknown>;
      expect({ without: field, ok: runSchema.safeParse(others).success }).toEqual({
        without: field,
        ok: false,
      });
    }
  });
});

describe('FORMAT.md', () => {
  it.each([
    ['manifest', manifestSchema],
    ['garbage list', garbageListSchema],
    ['canonical run', runSchema.omit({ observed: true })],
  ])('names every field of the %s', async (_, schema) => {
    const text = await read('docs/FORMAT.md');
    const names = fieldsOf(schema).map((field) => field.split('.').at(-1)!);
    const missing = names.filter((name) => !new RegExp(`[\`{ ]${name}[\`,}: ]`).test(text));
    expect([...new Set(missing)]).toEqual([]);
  });
});

describe('limits', () => {
  /** Options of calls that are named like limits. */
  const OPTIONS = ['indexIntervalMs', 'maxAgeMs'];
  const NAMED = /`([a-z]+[A-Za-z]*(?:Ms|Max|Rows))`(?:\s\(([^)]*)\)| \| ([^|]*) \|)?/g;

  it('that PROTOCOL.md names exist', async () => {
    const names = [...(await read('docs/PROTOCOL.md')).matchAll(NAMED)].map((match) => match[1]!);
    expect(names.length).toBeGreaterThan(20);
    expect(names.filter((name) => !OPTIONS.includes(name) && !isLimit(name))).toEqual([]);
  });

  it.each(DOCS)('have in %s the values they have in the code', async (file) => {
    for (const [, name = '', inText, inTable] of (await read(file)).matchAll(NAMED)) {
      const value = inText ?? inTable;
      if (!isLimit(name) || value === undefined) continue;
      expect(value.split(',')[0]!.trim().replace(/\s+/, ' '), `${file}: ${name}`).toBe(shown(name));
    }
  });
});

describe('commands', () => {
  /** What `--help` of a command tells, by its words: `runfold`, `runfold runs`, … */
  const helps = new Map<string, Promise<string>>();
  const helpOf = (command: string): Promise<string> => {
    const [bin = '', ...words] = command.split(' ');
    const main = bin === 'runfold' ? 'src/cli/main.ts' : 'compactor/main.ts';
    const known =
      helps.get(command) ??
      run(process.execPath, [join(root, main), ...words, '--help']).then(({ stdout }) => stdout);
    helps.set(command, known);
    return known;
  };

  /** Its subcommands, as far as `words` name them. */
  const commandOf = async (bin: string, words: readonly string[]): Promise<string> => {
    let command = bin;
    for (const word of words) {
      if (!(await subcommands(command)).includes(word)) break;
      command = `${command} ${word}`;
    }
    return command;
  };
  const subcommands = async (command: string) =>
    [...(await helpOf(command)).matchAll(/^ {2}([a-z][a-z-]*)[ |]/gm)].map((match) => match[1]!);

  it.each(DOCS)(
    'of %s exist, with the options they are shown with',
    async (file) => {
      for (const line of codeOf(await read(file))) {
        const [bin = '', ...words] = line.replace(/^\$ /, '').split(/\s+/);
        if (bin !== 'runfold' && bin !== 'runfold-compactor') continue;
        const command = await commandOf(bin, words);
        if (bin === 'runfold' && /^[a-z]/.test(words[0] ?? '')) {
          expect(command, `${file}: ${line}`).not.toBe('runfold');
        }
        for (const option of words.filter((word) => /^--[a-z]/.test(word))) {
          expect(await helpOf(command), `${file}: ${line}`).toContain(option.split('=')[0]);
        }
      }
    },
    120_000,
  );

  it('all have a row in the README', async () => {
    const text = await read('README.md');
    const commands = await subcommands('runfold');
    expect(commands).toContain('tables');
    expect(commands.filter((name) => name !== 'help' && !text.includes(`\`${name}`))).toEqual([]);
  });

  it.each(DOCS)('npm scripts of %s exist', async (file) => {
    const { scripts } = JSON.parse(await read('package.json')) as { scripts: Record<string, string> };
    const named = [...(await read(file)).matchAll(/npm run (?:--\S+ )*([a-z:-]+)/g)].map(
      (match) => match[1]!,
    );
    expect(named.filter((name) => scripts[name] === undefined)).toEqual([]);
  });
});

describe('links', () => {
  it.each(DOCS)('of %s lead somewhere', async (file) => {
    for (const [, target = ''] of (await read(file)).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [path = '', anchor] = target.split('#', 2);
      const to = path === '' ? file : join(dirname(file), path);
      expect(existsSync(join(root, to)), `${file}: ${target}`).toBe(true);
      if (anchor !== undefined) expect(anchorsOf(await read(to)), `${file}: ${target}`).toContain(anchor);
    }
  });
});

describe('README.md', () => {
  it('has an SDK example that runs', async () => {
    const source = /```js\n([\s\S]*?)```/.exec(await read('README.md'))?.[1] ?? '';
    const { exports } = JSON.parse(await read('package.json')) as {
      exports: Record<string, { default: string }>;
    };
    const runnable = source
      .replace(/'runfold(\/[a-z/]+)?'/g, (_, path = '') => {
        const built = exports[`.${path}`]!.default;
        return `'${pathToFileURL(join(root, built.replace('./dist/', '').replace('.js', '.ts'))).href}'`;
      })
      .replace("'file:./data'", "'memory:'");
    const dir = await mkdtemp(join(tmpdir(), 'runfold-docs-'));
    try {
      await writeFile(join(dir, 'example.mjs'), runnable);
      const { stdout } = await run(process.execPath, [join(dir, 'example.mjs')]);
      expect(stdout).toContain("name: 'orders'");
      expect(stdout).toContain("status: 'SUCCEEDED'");
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});

function split(text: string, mark: string): [before: string, after: string] {
  const at = text.indexOf(mark);
  if (at < 0) throw new Error(`${mark.trim()} is missing`);
  return [text.slice(0, at), text.slice(at + mark.length)];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |\n`;
  return line(head) + line(head.map(() => '---')).replaceAll(' ', '') + rows.map(line).join('');
}

function metricsTable(): string {
  const rows = Object.entries<MetricDefinition>(METRICS).map(([name, { type, labels = [], help, of }]) => {
    const named = labels.length === 0 ? '' : labels.map((label) => `\`${label}\``).join(', ');
    return `| \`${name}\` | ${of} | ${type} | ${named} | ${help} |\n`;
  });
  return `| metric | of | type | labels | what it tells |\n|---|---|---|---|---|\n${rows.join('')}`;
}

function columnsTable(): string {
  return table(
    ['column', 'kind', 'null', 'bounds', 'field', 'about'],
    COLUMNS.map((definition: ColumnDefinition) => {
      const { name, kind, statistics, group, field, about } = definition;
      const path = group === null ? field : `${group}.${field}`;
      return [
        `\`${name}\``,
        kind,
        isOptional(definition) ? 'null' : '',
        statistics ? 'yes' : '',
        `\`${path}\``,
        about,
      ];
    }),
  );
}

const error = { code: null, message: 'it broke' };
const timeouts = { heartbeat_timeout_ms: 1_000, run_timeout_ms: 2_000 };

function runIn(status: RunStatus): Run {
  const queued = runOf(timeouts);
  if (status === 'QUEUED') return queued;
  const running = must(queued, { type: 'started', attempt: 1 }, START);
  const by: Record<Exclude<RunStatus, 'QUEUED'>, () => Run> = {
    RUNNING: () => running,
    CANCELLING: () => must(running, { type: 'cancel' }, START),
    SUCCEEDED: () => must(running, { type: 'succeeded', attempt: 1 }, START),
    FAILED: () => must(running, { type: 'failed', attempt: 1, error }, START),
    CANCELLED: () => must(running, { type: 'cancelled', attempt: 1 }, START),
    TIMED_OUT: () => must(running, { type: 'time_out' }, START + 60_000),
  };
  return by[status]();
}

function runsTable(): string {
  const events: { [E in RunEvent['type']]: Extract<RunEvent, { type: E }> } = {
    create: { type: 'create', orgId: ORG, input: { run_id: 'run-1' }, fingerprint: 'f' },
    started: { type: 'started', attempt: 1 },
    heartbeat: { type: 'heartbeat', attempt: 1, indexIntervalMs: 60_000 },
    succeeded: { type: 'succeeded', attempt: 1 },
    failed: { type: 'failed', attempt: 1, error },
    cancelled: { type: 'cancelled', attempt: 1 },
    cancel: { type: 'cancel' },
    force_cancel: { type: 'force_cancel' },
    force_fail: { type: 'force_fail', error },
    time_out: { type: 'time_out' },
    retry: { type: 'retry', attempt: 1 },
    delete: { type: 'delete' },
    task: { type: 'task', attempt: 1, task: { type: 'queued', key: 'extract' } },
    artifact: {
      type: 'artifact',
      attempt: 1,
      artifact: { type: 'put', operator: 'scan', port: 'out', uri: 's3://b/x' },
    },
    trace: { type: 'trace', attempt: 1 },
    trace_archived: { type: 'trace_archived', attempt: 1, archive: archiveOf() },
  };
  const cell = (status: RunStatus, event: RunEvent) => {
    const answer = transition(runIn(status), event, START + 120_000);
    if (answer.outcome === 'changed' && answer.run.deleted_at !== null) return '→ stub';
    return cellOf(answer, status, (next) => next.status);
  };
  return table(
    ['event', ...RUN_STATUSES],
    Object.values(events).map((event) => [
      `\`${event.type}\``,
      ...RUN_STATUSES.map((status) => cell(status, event)),
    ]),
  );
}

function tasksTable(): string {
  const key = 'extract';
  const task = (event: TaskEvent): RunEvent => ({ type: 'task', attempt: 1, task: event });
  const running = runIn('RUNNING');
  const queued = must(running, task({ type: 'queued', key }), START);
  const started = must(queued, task({ type: 'started', key, attempt: 1 }), START);
  const runs: Record<TaskStatus, Run> = {
    QUEUED: queued,
    RUNNING: started,
    SUCCEEDED: must(started, task({ type: 'succeeded', key, attempt: 1 }), START),
    FAILED: must(started, task({ type: 'failed', key, attempt: 1, error }), START),
    CANCELLED: must(started, task({ type: 'cancelled', key, attempt: 1 }), START),
  };
  const events: { [E in TaskEvent['type']]: Extract<TaskEvent, { type: E }> } = {
    queued: { type: 'queued', key },
    started: { type: 'started', key, attempt: 1 },
    heartbeat: { type: 'heartbeat', key, attempt: 1, indexIntervalMs: 60_000 },
    succeeded: { type: 'succeeded', key, attempt: 1 },
    failed: { type: 'failed', key, attempt: 1, error },
    cancelled: { type: 'cancelled', key, attempt: 1 },
    retry: { type: 'retry', key, attempt: 1 },
  };
  return table(
    ['task event', ...TASK_STATUSES],
    Object.values(events).map((event) => [
      `\`${event.type}\``,
      ...TASK_STATUSES.map((status) =>
        cellOf(taskTransition(runs[status], event, START + 1_000), status, (next) => next.tasks[key]!.status),
      ),
    ]),
  );
}

function cellOf(answer: Transition, before: string, statusOf: (run: Run) => string): string {
  if (answer.outcome === 'refused') return answer.code;
  if (answer.outcome === 'same') return 'same';
  const after = statusOf(answer.run);
  return after === before ? 'written' : `→ ${after}`;
}

/** Paths of all fields, those of objects in lists and in nullable places included. */
function fieldsOf(schema: z.ZodType, prefix = ''): string[] {
  const { shape, element, innerType } = { ...schema, ...schema.def } as unknown as {
    shape?: Record<string, z.ZodType>;
    element?: z.ZodType;
    innerType?: z.ZodType;
  };
  const inner = innerType ?? element;
  if (inner !== undefined) return fieldsOf(inner, prefix);
  if (shape === undefined) return [];
  return Object.entries(shape).flatMap(([name, field]) => {
    const path = prefix === '' ? name : `${prefix}.${name}`;
    return [path, ...fieldsOf(field, path)];
  });
}

/** First cells of all table rows, those that name several fields taken apart. */
function firstCells(text: string): Set<string> {
  const cells = [...text.matchAll(/^\| ([^|]+) \|/gm)].flatMap((match) => match[1]!.split(', '));
  return new Set(cells);
}

type Limit = keyof typeof defaultLimits;

function isLimit(name: string): name is Limit {
  return Object.hasOwn(defaultLimits, name);
}

/** A limit as the docs write it. */
function shown(name: Limit): string {
  const value = defaultLimits[name];
  if (name.includes('Bytes')) return value % 2 ** 20 === 0 ? `${value / 2 ** 20} MiB` : `${value / 1024} KiB`;
  if (!name.endsWith('Ms')) {
    return value < 10_000 ? String(value) : String(value).replace(/\B(?=(\d{3})+$)/g, ' ');
  }
  if (value >= 7 * 86_400_000) return `${value / 86_400_000} d`;
  if (value >= 3_600_000) return `${value / 3_600_000} h`;
  if (value > 60_000) return `${value / 60_000} min`;
  return value < 1_000 ? `${value} ms` : `${value / 1_000} s`;
}

/** Lines of fenced blocks, continued ones joined, and inline code. */
function codeOf(text: string): string[] {
  const parts = text.split(/^```.*$/m);
  const fenced = parts.filter((_, i) => i % 2 === 1).join('\n');
  const prose = parts.filter((_, i) => i % 2 === 0).join('\n');
  return [
    ...fenced.replaceAll(/\\\n\s*/g, ' ').split('\n'),
    ...[...prose.matchAll(/`([^`\n]+)`/g)].map((match) => match[1]!),
  ].map((line) => line.trim());
}

/** As GitHub makes them of headings. */
function anchorsOf(text: string): string[] {
  return [...text.matchAll(/^#{1,6} (.+)$/gm)].map((match) =>
    match[1]!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
}
