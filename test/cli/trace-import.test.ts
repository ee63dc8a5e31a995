import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { crc32c } from '../../src/core/crc32c.ts';
import { openFileStore } from '../../src/store/file.ts';
import { archiveKey, chunksPrefix, manifestKey, runKey, traceWorkKey } from '../../src/store/keys.ts';
import { readWork } from '../../src/traces/work.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { type World, worldOn } from '../support/world.ts';
import { traceImportSchema, tracePurgeSchema } from './contract.ts';
import { onStore, tempDir } from './support.ts';

const ORG = 'acme';
const DAY = 86_400_000;
const LOG = 'an old log\nof two lines\n';
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

describe('a table that kept the books before', () => {
  let world: World;
  let runfold: ReturnType<typeof onStore>;
  const dir = tempDir();
  const csv = join(dir, 'logs.csv');
  const zst = zstdCompressSync(Buffer.from(LOG));
  const ask = async (...args: string[]) => {
    const { code, stdout } = await runfold(...args, '--json');
    return { code, value: JSON.parse(stdout) as unknown };
  };

  beforeAll(async () => {
    const clock = new FakeClock(Date.now() - DAY);
    world = await worldOn(await openFileStore(join(dir, 'store'), { clock, fsync: false }), { clock });
    runfold = onStore(`file:${join(dir, 'store')}?fsync=off`);
    for (const run_id of ['zstd', 'gzip', 'plain', 'wrong', 'gone']) {
      await world.session.recorder.create(ORG, { run_id });
      await world.session.recorder.apply(ORG, run_id, { type: 'succeeded', attempt: 1 });
    }
    await world.store.put('old/zstd.zst', zst);
    await world.store.put('old/gzip.gz', gzipSync(LOG));
    await world.store.put('old/plain.log', Buffer.from(LOG));
    writeFileSync(
      csv,
      [
        'run_id,attempt,uri,bytes,lines,sha256,crc32c,note',
        `zstd,1,old/zstd.zst,${LOG.length},2,${sha256(zst)},${crc32c(zst)},"of the object, quoted ""so"""`,
        `gzip,,${world.store.url}/old/gzip.gz,,,${sha256(Buffer.from(LOG)).toUpperCase()},,"two`,
        'lines"',
        'plain,1,old/plain.log,,,,,',
        `wrong,1,old/plain.log,${LOG.length + 1},,,,`,
        'gone,1,old/nothing,,,,,',
        'nobody,1,old/plain.log,,,,,',
        'zstd,2,old/plain.log,,,,,',
        '../x,1,old/plain.log,,,,,',
        'too,few',
        '',
      ].join('\n'),
    );
  });

  it('is imported: every log is read and checked first, and archived like all others', async () => {
    const looked = await ask('trace', 'import', csv, '--org', ORG, '--dry-run');
    expect(traceImportSchema.parse(looked.value)).toMatchObject({
      dry_run: true,
      imported: 3,
      rejected_total: 6,
    });
    expect(await world.store.head(traceWorkKey(ORG))).toBeNull();
    const done = await ask('trace', 'import', csv, '--org', ORG);
    const report = traceImportSchema.parse(done.value);
    expect([done.code, report.rows, report.imported, report.known]).toEqual([1, 9, 3, 0]);
    expect(report.rejected.sort((a, b) => a.line - b.line)).toEqual([
      { line: 6, reason: expect.stringContaining('is not what the row says (bytes: 24)') },
      { line: 7, reason: 'old/nothing is not there' },
      { line: 8, reason: 'there is no such run in this org' },
      { line: 9, reason: 'the run has no attempt 2' },
      { line: 10, reason: 'run_id: is not a run id' },
      { line: 11, reason: 'it is not a row' },
    ]);
    for (const run of ['zstd', 'gzip', 'plain']) {
      const { body, state } = await world.session.traces.read(ORG, run);
      expect([Buffer.from(body).toString(), state.status]).toEqual([LOG, 'archived']);
    }
    // Old runs stay as old as they were.
    const { run } = (await world.session.runs.read(ORG, 'zstd'))!;
    expect(run.updated_at).toBe(run.finished_at);
    expect((await readWork(world.store, ORG)).work.entries).toEqual({});
  });

  it('and again: known', async () => {
    const again = await ask('trace', 'import', csv, '--org', ORG);
    expect(traceImportSchema.parse(again.value)).toMatchObject({ imported: 0, known: 3, rejected_total: 6 });
  });

  it('purge removes the rows whose archives verify, and only those', async () => {
    const before = readFileSync(csv, 'utf8');
    const looked = await ask('trace', 'purge', csv, '--org', ORG, '--dry-run');
    expect(tracePurgeSchema.parse(looked.value)).toMatchObject({ rows: 9, purged: 3, kept: 6 });
    expect(readFileSync(csv, 'utf8')).toBe(before);
    // One of them has rotted since.
    const { run } = (await world.session.runs.read(ORG, 'plain'))!;
    await world.store.put(run.traces!['1']!.archive!.uri!, Buffer.from('rot'));
    const done = await ask('trace', 'purge', csv, '--org', ORG);
    expect(tracePurgeSchema.parse(done.value)).toMatchObject({ rows: 9, purged: 2, kept: 7 });
    const left = readFileSync(csv, 'utf8').trimEnd().split('\n');
    expect(left.map((line) => line.split(',')[0])).toEqual([
      'run_id',
      'plain',
      'wrong',
      'gone',
      'nobody',
      'zstd',
      '../x',
      'too',
    ]);
  });

  it('purge keeps every row that names another log than the one archived here', async () => {
    await world.store.put('old/other.log', Buffer.from(LOG.replace('old', 'new')));
    const table = join(dir, 'others.csv');
    const sum = sha256(Buffer.from(LOG));
    const rows = [
      `gzip,old/other.log,${LOG.length},2,,`,
      `gzip,old/gzip.gz,${LOG.length},3,,`,
      `gzip,old/gzip.gz,,,${'0'.repeat(64)},`,
      'gzip,old/gzip.gz,,,,1',
      `gzip,old/nothing,${LOG.length},2,${'0'.repeat(64)},`,
      `gzip,old/nothing,${LOG.length},2,,`,
    ];
    const same = [`gzip,old/gzip.gz,${LOG.length},2,${sum},`, `gzip,old/nothing,,,${sum},`];
    const text = (lines: string[]) => ['run_id,uri,bytes,lines,sha256,crc32c', ...lines, ''].join('\n');
    writeFileSync(table, text([...rows, ...same]));
    const done = await ask('trace', 'purge', table, '--org', ORG);
    expect(tracePurgeSchema.parse(done.value)).toMatchObject({ purged: same.length, kept: rows.length });
    expect(readFileSync(table, 'utf8')).toBe(text(rows));
  });

  it('takes files as they come: a byte order mark, CRLF, quoted line ends, duplicates, and rows that are traps', async () => {
    const table = join(dir, 'hostile.csv');
    for (const run_id of ['twice', 'quoted']) {
      await world.session.recorder.create(ORG, { run_id });
      await world.session.recorder.apply(ORG, run_id, { type: 'succeeded', attempt: 1 });
    }
    const lines = [
      '\ufeff"run_id",note,"uri",bytes',
      'twice,,old/plain.log,24',
      'twice,,old/plain.log,24',
      '"quoted","{""a"":\r\n1}, and\r\n\r\nmore",old/plain.log,',
      'a/b,,old/plain.log,',
      'twice,,../../../etc/passwd,',
      'twice,,file:///etc/passwd,',
      'twice,,,',
      'twice,,old/plain.log,NaN',
      '{"run_id": "twice"},,,,',
      '',
      '__proto__,,old/plain.log,',
      'quoted,x,old/plain.log,"24',
    ];
    const text = lines.join('\r\n');
    writeFileSync(table, text);
    const looked = await ask('trace', 'import', table, '--org', ORG, '--dry-run');
    expect(traceImportSchema.parse(looked.value)).toMatchObject({ imported: 2, known: 1, rejected_total: 8 });
    const done = traceImportSchema.parse((await ask('trace', 'import', table, '--org', ORG)).value);
    expect(done).toMatchObject({ rows: 11, imported: 2, known: 1, rejected_total: 8 });
    expect(done.rejected.map(({ line }) => line)).toEqual([8, 9, 10, 11, 12, 13, 15, 16]);
    expect((await readWork(world.store, ORG)).work.entries).toEqual({});
    const purged = await ask('trace', 'purge', table, '--org', ORG);
    expect(tracePurgeSchema.parse(purged.value)).toMatchObject({ purged: 3, kept: 8 });
    // What is left is as it was, byte for byte.
    const left = [lines[0], ...lines.slice(4, 10), ...lines.slice(11)].join('\r\n');
    expect(readFileSync(table, 'utf8')).toBe(`${left}\n`);
    const clear = async (name: string, content: string, message: RegExp) => {
      writeFileSync(join(dir, name), content);
      const ran = await runfold('trace', 'import', join(dir, name), '--org', ORG);
      expect([ran.code, ran.stderr]).toEqual([2, expect.stringMatching(message)]);
    };
    await clear('none.csv', 'run_id,place\nplain,old/plain.log\n', /has no column uri/);
    const open = `run_id,uri\nplain,"old${'\nplain,old/plain.log'.repeat(60_000)}`;
    await clear('open.csv', open, /open.csv:2: a record that begins here does not end/);
    await clear('twice.csv', 'run_id,uri,uri\n', /does not name the columns/);
  });

  it('takes no key of runfold itself for a log: it may be that of another org', async () => {
    const { recorder } = world.session;
    await recorder.create('victim', { run_id: 'n1' });
    const secrets = [
      archiveKey('victim', '0193a0c0-0000-7000-8000-000000000000'),
      `${chunksPrefix('victim', 'n1', 1)}000000000000-6-x`,
    ];
    for (const key of secrets) await world.store.put(key, Buffer.from('secret'));
    secrets.push(
      runKey('victim', 'n1'),
      runKey(ORG, 'plain'),
      manifestKey('victim'),
      'catalog/dirty/00/victim',
    );
    secrets.push('artifact-versions/orgs/victim/x.json', 'TRACES/orgs/victim/archives/x.zst');
    const uris = secrets.flatMap((key) => [key, `${world.store.url}/${key}`]);
    await recorder.create(ORG, { run_id: 'thief' });
    await recorder.apply(ORG, 'thief', { type: 'succeeded', attempt: 1 });
    const table = join(dir, 'thief.csv');
    writeFileSync(table, ['run_id,uri', ...uris.map((uri) => `thief,${uri}`), ''].join('\n'));
    for (const dry of [['--dry-run'], []]) {
      const done = traceImportSchema.parse((await ask('trace', 'import', table, '--org', ORG, ...dry)).value);
      expect(done).toMatchObject({ imported: 0, known: 0, rejected_total: uris.length });
      for (const { reason } of done.rejected) expect(reason).toMatch(/ belongs to runfold itself/);
    }
  });

  it('takes whole numbers as digits only', async () => {
    const table = join(dir, 'numbers.csv');
    const odd = ['1e0,24', '" 1 ",24', '0x1,24', '1.0,24', '+1,24', '0,24', '1,0x18', '1,2.4e1', '1,-24'];
    writeFileSync(
      table,
      ['run_id,uri,attempt,bytes', ...odd.map((two) => `plain,old/plain.log,${two}`), ''].join('\n'),
    );
    const { value } = await ask('trace', 'import', table, '--org', ORG, '--dry-run');
    const done = traceImportSchema.parse(value);
    expect(done.rejected_total).toBe(odd.length);
    for (const { reason } of done.rejected) expect(reason).toMatch(/^(attempt|bytes): /);
  });

  it('NDJSON as well; a file that is none is one clear error', async () => {
    const ndjson = join(dir, 'logs.ndjson');
    writeFileSync(
      ndjson,
      `${JSON.stringify({ run_id: 'gzip', uri: 'old/gzip.gz', bytes: LOG.length })}\nnonsense\n`,
    );
    const done = await ask('trace', 'import', ndjson, '--org', ORG);
    expect(traceImportSchema.parse(done.value)).toMatchObject({ known: 1, rejected_total: 1 });
    const missing = await runfold('trace', 'import', join(dir, 'nothing.csv'), '--org', ORG);
    expect([missing.code, missing.stderr]).toEqual([2, expect.stringContaining('cannot be read')]);
  });
});
