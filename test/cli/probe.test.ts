import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { parseLatencyProfile } from '../../src/store/latency.ts';
import { describeGcs } from '../support/gcs.ts';
import { jsonOf, onStore, tempDir } from './support.ts';

const measured = z.strictObject({
  samples: z.literal(5),
  min: z.number(),
  p50: z.number(),
  p90: z.number(),
  p99: z.number(),
  max: z.number(),
});
const count = z.number().int().positive();
const requests = z.strictObject({
  get: count,
  head: count,
  put: count,
  delete: count,
  list: count,
  bytes_written: count,
  bytes_read: count,
});
const probeSchema = z.strictObject({
  store: z.string(),
  dry_run: z.literal(false),
  requests,
  profile: z.looseObject({ name: z.string() }),
  prefix: z.string().regex(/^probe\/[0-9a-f-]{36}\/$/),
  file: z.string().nullable(),
  download: z.number().nullable(),
  upload: z.number().nullable(),
  first_byte_ms: z.strictObject({
    get: measured,
    head: measured,
    put: measured,
    delete: measured,
    list: measured,
  }),
});

describe('runfold probe', () => {
  const dir = tempDir();
  mkdirSync(join(dir, 'store'));
  const runfold = onStore(`file:${join(dir, 'store')}?fsync=off`);
  const objects = () =>
    readdirSync(join(dir, 'store'), { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.startsWith('probe/'),
    );

  it('measures, leaves no object, and writes what the bench reads', async () => {
    const out = join(dir, 'measured.json');
    const probe = probeSchema.parse(await jsonOf(runfold('probe', '--samples', '5', '--out', out, '--json')));
    expect(probe.file).toBe(out);
    const profile = parseLatencyProfile(out, JSON.parse(readFileSync(out, 'utf8')));
    expect(profile.first_byte_ms.get.p50).toBeGreaterThan(0);
    expect(JSON.parse(readFileSync(out, 'utf8'))).toEqual(probe.profile);
    expect(objects().filter((name) => name.split('/').length > 3)).toEqual([]);
  });

  it('tells people in a table; a dry run sends nothing', async () => {
    const told = await runfold('probe', '--samples', '2');
    expect(told).toMatchObject({ code: 0, stderr: '' });
    expect(told.stdout).toMatch(/FIRST BYTE +P50 +P90 +P99 +MAX/);
    const before = objects();
    const dry = await runfold('probe', '--dry-run');
    expect(dry.stdout).toMatch(/Would send 111 GET, 103 HEAD/);
    expect(dry.stdout).toContain('Nothing was sent.');
    expect(await jsonOf(runfold('probe', '--dry-run', '--json'))).toMatchObject({ dry_run: true });
    expect(objects()).toEqual(before);
  });

  it('refuses a path that it could not write before it measures', async () => {
    const refused = await runfold('probe', '--out', join(dir, 'none/measured.json'));
    expect(refused).toMatchObject({ code: 2, stdout: '' });
    expect(refused.stderr).toContain('none is no folder');
    expect((await runfold('probe', '--out', dir)).stderr).toContain('is a folder');
    expect((await runfold('probe', '--samples', '10001')).stderr).toContain('more than 10000');
    expect(existsSync(join(dir, 'none'))).toBe(false);
  });
});

await describeGcs('runfold probe on Cloud Storage', (gcs) => {
  it('measures over HTTP, and leaves the bucket as it was', async () => {
    const runfold = onStore(`gs://${gcs.bucket}`);
    const probe = probeSchema.parse(
      await jsonOf(runfold('probe', '--samples', '5', '--endpoint', gcs.endpoint, '--json')),
    );
    expect(probe.first_byte_ms.get.p50).toBeGreaterThan(0);
    expect(probe.profile).toHaveProperty('name_interval_ms', 1_000);
    expect((await gcs.store.list({ prefix: '' })).items).toEqual([]);
  });
});
