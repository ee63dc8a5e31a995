import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkNode, NODE_VERSION_MIN } from '../../src/cli/node-version.ts';
import { isoTimes, parseTime } from '../../src/cli/times.ts';
import { COMPACTOR, EVENTS, RUNFOLD, run, tempDir, writeEvents } from './support.ts';

const store = `file:${join(tempDir(), 'store')}?fsync=off`;
const file = writeEvents(join(tempDir(), 'events.ndjson'), EVENTS);

describe.concurrent('wrong use: exit code 2, one sentence, a hint, nothing on standard output', () => {
  const S = ['--store', store];
  const O = ['--org', 'acme'];
  const rows: [args: string[], message: RegExp][] = [
    [['tables', ...O], /No store was named/],
    [['tables', ...O, '--store', 'ftp://x'], /ftp:\/\/x is not a store/],
    [['tables', ...O, '--store', 'gs://X'], /is not a bucket/],
    [['tables', ...S], /--org <org>.* not specified/],
    [['tables', ...S, '--org', 'a/b'], /org id "a\/b"/],
    [['tables', ...S, ...O, '--org', 'other'], /--org was given twice/],
    [['--store', 'memory:', 'tables', ...S, ...O], /--store was given twice/],
    [['runs', ...S, ...O, '--limit', '1', '--limit=2'], /--limit was given twice/],
    [['tables', ...S, ...O, '--frob'], /Unknown option '--frob'/],
    [['tables', ...S, ...O, 'extra'], /Too many arguments/],
    [['frob', ...S], /Unknown command 'frob'/],
    [['import', 'frob', ...S], /Unknown command 'frob'/],
    [['import', 'openlineage', ...S, ...O], /Missing required argument/],
    [['import', 'openlineage', ...S, ...O, '/no/such.ndjson'], /\/no\/such.ndjson does not exist/],
    [['import', 'openlineage', ...S, ...O, '-', '-'], /only once/],
    [['runs', ...S, ...O, '--status', 'DONE'], /"DONE" is not a status/],
    [['runs', ...S, ...O, '--limit', '0'], /whole number/],
    [['runs', ...S, ...O, '--since', 'yesterday'], /"yesterday" is not a time/],
    [['lineage', ...S, ...O, '--namespace', 'db'], /--name <name>.* not specified/],
    [['lineage', ...S, ...O, '--namespace', 'db', '--name', 'b', '--direction', 'up'], /Allowed choices/],
    [['lineage', ...S, ...O, '--namespace', 'db', '--name', 'b', '--depth', '-1'], /whole number/],
    [['compact', ...S, ...O, '--all'], /exclude each other/],
    [['compact', ...S, '--codec', 'csv'], /Allowed choices/],
    [['verify', ...S, ...O, '--all'], /exclude each other/],
    [['demo', '--size', 'many'], /whole number/],
  ];
  const compactorRows: typeof rows = [
    [[...S], /--once or --schedule/],
    [[...S, '--once', '--schedule', '* * * * *'], /--once or --schedule/],
    [[...S, '--schedule', 'now and then'], /"now and then" is not a schedule/],
    [['--once'], /No store was named/],
    [[...S, '--once', '--fold-after', 'off', '--fold-entries', '9'], /leaves no room/],
    [[...S, '--once', '--fold-entries', '1001'], /1000 at most/],
    [[...S, '--once', '--fold-after', '5m', '--export-legacy'], /every pass folds/],
    [[...S, '--once', '--full-every', '3'], /--full-every goes with --schedule/],
    [['--once', '--store', 'file:/nonexistent/zzz'], /nonexistent/],
    [[...S, '--once', '--metrics-port', '0'], /--metrics-port goes with --schedule/],
  ];

  it.each([
    ...rows.map(([args, message]) => [RUNFOLD, args, message] as const),
    ...compactorRows.map(([args, message]) => [COMPACTOR, args, message] as const),
  ])('%#', async (bin, args, message) => {
    const { code, stdout, stderr } = await run(bin, [...args, '--json']);
    const lines = stderr.trimEnd().split('\n');
    expect({ code, stdout, lines: lines.length }).toEqual({ code: 2, stdout: '', lines: 2 });
    expect(lines[0]).toMatch(/^error: \S/);
    expect(lines[0]).toMatch(message);
    expect(lines[1]).toMatch(/^hint: \S/);
  });
});

describe('errors', () => {
  it('exit with 1 and no stack where the store fails; --debug shows the stack', async () => {
    const args = ['tables', '--org', 'acme', '--store', 'file:/dev/null/store', '--json'];
    const [quiet, debug] = await Promise.all([run(RUNFOLD, args), run(RUNFOLD, [...args, '--debug'])]);
    expect(quiet).toMatchObject({ code: 1, stdout: '' });
    expect(quiet.stderr).toMatch(/^error: /);
    expect(quiet.stderr).not.toContain('    at ');
    expect(debug).toMatchObject({ code: 1, stdout: '' });
    expect(debug.stderr).toContain('    at ');
  });

  it('--help and --version exit with 0', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    const rows = await Promise.all([
      run(RUNFOLD, ['--help']),
      run(RUNFOLD, ['runs', '--help']),
      run(COMPACTOR, ['--help']),
      run(RUNFOLD, ['--version']),
    ]);
    for (const ran of rows) expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(rows[0]!.stdout).toContain('Examples:');
    expect(rows[1]!.stdout).toContain('--store <url>');
    expect(rows[2]!.stdout).toContain('--full-every');
    expect(rows[3]!.stdout).toBe(`${version}\n`);
  });

  it('a reader that has seen enough is no error', async () => {
    await run(RUNFOLD, ['import', 'openlineage', file, '--org', 'acme', '--store', store]);
    const child = spawn(process.execPath, [RUNFOLD, 'runs', '--org', 'acme', '--store', store, '--json']);
    child.stdout.destroy();
    let stderr = '';
    child.stderr.on('data', (text) => {
      stderr += text;
    });
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });

  it('Ctrl-C exits with 130', async () => {
    const ran = await run(RUNFOLD, ['demo', '--size', '50000'], {
      onOutput: (stdout, kill) => stdout.endsWith('cut.\n\n') && setTimeout(() => kill('SIGINT'), 300),
    });
    expect(ran).toMatchObject({ code: 130, signal: null, stderr: '' });
  });
});

describe('an old Node', () => {
  it('is told so in one sentence', () => {
    const { engines } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    expect(engines.node).toBe(`>=${NODE_VERSION_MIN}`);
    const before = process.exitCode;
    const written: string[] = [];
    const write = process.stderr.write;
    process.stderr.write = ((text: string) => written.push(text) > 0) as typeof write;
    try {
      expect(['22.19.0', '24.0.0', '26.1.0'].map((version) => checkNode('runfold', version))).toEqual([
        true,
        true,
        true,
      ]);
      expect(written).toEqual([]);
      expect(['22.18.9', '20.20.2'].map((version) => checkNode('runfold', version))).toEqual([false, false]);
      expect(written[0]).toMatch(/^error: runfold needs Node.js 22.19 or newer; this is 22.18.9.\nhint: /);
    } finally {
      process.stderr.write = write;
      process.exitCode = before;
    }
  });
});

describe('times', () => {
  it('become ISO strings wherever they are nested, and only they', () => {
    const row = {
      created_at: 0,
      rows: 5,
      latest_task: { started_at: 1_000, finished_at: null },
      list: [{ at: 5 }],
    };
    expect(isoTimes(row)).toEqual({
      created_at: '1970-01-01T00:00:00.000Z',
      rows: 5,
      latest_task: { started_at: '1970-01-01T00:00:01.000Z', finished_at: null },
      list: [{ at: '1970-01-01T00:00:00.005Z' }],
    });
  });

  it('are read as UTC or as an age', () => {
    const now = Date.UTC(2026, 10, 20);
    expect(parseTime('2026-11-20', 0)).toBe(now);
    expect(parseTime('2026-11-20T00:00:00', 0)).toBe(now);
    expect(parseTime('2026-11-20T01:00:00+01:00', 0)).toBe(now);
    expect(parseTime('2d', now)).toBe(Date.UTC(2026, 10, 18));
    for (const wrong of ['', '2026', '2026-13-01', '5', '5y', '-1d'])
      expect(() => parseTime(wrong, now)).toThrow();
  });
});
