import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { crc32c } from '../src/core/crc32c.ts';
import { DICTIONARY_V1 } from '../src/log/dictionary.ts';
import { decodeEntry, encodeEntry, INLINE_KEY, inlineBody, inlinePayload } from '../src/log/entry.ts';
import { decodeGarbage, encodeGarbage, type GarbageList } from '../src/manifest/garbage.ts';
import { decodeManifest, encodeManifest, type Manifest } from '../src/manifest/manifest.ts';
import { project } from '../src/runs/projection.ts';
import type { LogRecord } from '../src/runs/record.ts';
import { decodeRun, encodeRun, type Run } from '../src/runs/run.ts';

/**
 * Bytes of every format, as they lie in people's buckets. These files are NEVER edited: if a test here fails, the
 * code is wrong, or the format needs a new version with new files beside these. (Parts: test/snapshot/golden.test.ts.)
 */
const golden = (name: string) => readFile(new URL(`./golden/${name}`, import.meta.url));
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

const ORG = 'golden-org';
const KEY = 'golden';
/** zlib may pack the same bytes in other ways from one version, or one processor, to the next; all unpack all. */
const SAME_ZLIB = process.versions.zlib === '1.3.2.1-motley-8002e91' && process.arch === 'x64';

const run: Run = {
  format: 1,
  run_id: '0192d3c0-7e57-7000-8000-00000000cafe',
  org_id: ORG,
  kind: 'dbt',
  reference_id: 'airflow/daily "orders" é😀',
  queue: 'default',
  run_key: 'daily-orders',
  status: 'FAILED',
  attempt: 2,
  revision: 7,
  created_at: 1_795_176_000_000,
  updated_at: 1_795_176_060_000,
  started_at: 1_795_176_001_000,
  finished_at: 1_795_176_060_000,
  heartbeat_at: 1_795_176_059_000,
  cancel_requested_at: null,
  heartbeat_timeout_ms: 30_000,
  run_timeout_ms: null,
  payload: {
    target_namespace: 'postgres://host:5432',
    target_table: 'public.orders',
    source_type: 'postgres',
    team: 'payments',
  },
  inputs: [{ namespace: 'postgres://host:5432', name: 'raw.orders' }],
  outputs: [{ namespace: 'postgres://host:5432', name: 'public.orders' }],
  tasks: {
    extract: {
      key: 'extract',
      status: 'FAILED',
      attempt: 1,
      created_at: 1_795_176_001_000,
      updated_at: 1_795_176_050_000,
      started_at: 1_795_176_002_000,
      finished_at: 1_795_176_050_000,
      outputs: [],
      error: { code: 'E_TIMEOUT', message: 'no answer' },
    },
  },
  artifacts: {},
  result: { uri: 'gs://bucket/out', rows: 9_007_199_254_740_991, bytes: 0, version: 'v1' },
  error: { code: null, message: 'line one\nline two' },
  code_version: 'abc123',
  deleted_at: null,
  first_created_at: 1_795_176_000_500,
  fingerprint: '0123456789abcdef0123456789abcdef',
  indexed_revision: 7,
  indexed_at: 1_795_176_060_000,
  observed: {
    status: 'FAILED',
    first_at: 1_795_176_000_000,
    last_at: 1_795_176_060_000,
    started_at: 1_795_176_001_000,
    terminal: { at: 1_795_176_060_000, value: 'FAILED' },
    kind: { at: 1_795_176_000_000, value: 'dbt' },
    reference_id: null,
    source_type: null,
    code_version: null,
    error: { at: 1_795_176_060_000, value: { code: null, message: 'broke' } },
    rows: { at: 1_795_176_060_000, value: 7 },
    bytes: null,
    version: null,
    inputs: [{ namespace: 'postgres://host:5432', name: 'raw.orders', at: 1_795_176_000_000, index: 0 }],
    outputs: [],
  },
};

const bare: Run = {
  ...run,
  run_id: 'bare',
  kind: 'job',
  reference_id: null,
  queue: null,
  status: 'QUEUED',
  attempt: 1,
  revision: 1,
  started_at: null,
  finished_at: null,
  heartbeat_at: null,
  payload: { target_namespace: null, target_table: null, source_type: null },
  inputs: [],
  outputs: [],
  tasks: {},
  artifacts: {},
  result: null,
  error: null,
  code_version: null,
  first_created_at: null,
  observed: null,
};

const records: LogRecord[] = [
  { kind: 'put', row: project(run) },
  { kind: 'intent', row: project(bare) },
  { kind: 'delete', run_id: 'gone', revision: 3, deleted_at: 1_795_176_070_000 },
];
/** What the first projection did not have reads as null. */
const recordsV1: LogRecord[] = records.map((record) =>
  record.kind === 'delete'
    ? record
    : {
        ...record,
        row: { ...record.row, changed_at: null, trace: null, artifacts: null, projection_version: 1 },
      },
);

const manifest: Manifest = {
  format: 1,
  org_id: ORG,
  version: 42,
  write_id: '0192d3c0-7e57-7000-8000-000000000001',
  reader_features: [],
  writer_features: [],
  created_at: 1_795_176_100_000,
  previous_committed_at: 1_795_176_040_000,
  covers_until: 1_795_176_070_000,
  parts: [
    {
      name: '0192d3c0-7e57-7000-8000-000000000002',
      level: 0,
      runs: 2,
      rows: 2,
      size_bytes: 4,
      crc32c: 4_294_967_295,
      generation: null,
      state_hash: '000102030405060708090a0b0c0d0e0f',
      created_at_min: 1_795_176_000_000,
      created_at_max: 1_795_176_000_000,
      updated_at_max: 1_795_176_060_000,
      finished_at_max: null,
      written_at: 1_795_176_100_000,
      groups: null,
      inline: 'UEFSMQ==',
    },
    {
      name: '0192d3c0-7e57-7000-8000-000000000003',
      level: 1,
      runs: 100,
      rows: 130,
      size_bytes: 1_234_567,
      crc32c: 1,
      generation: '1777369647609324',
      state_hash: 'ffffffffffffffffffffffffffffffff',
      created_at_min: 1_795_000_000_000,
      created_at_max: 1_795_100_000_000,
      updated_at_max: 1_795_100_000_001,
      finished_at_max: 1_795_100_000_001,
      written_at: 1_795_176_040_000,
      groups: 'AAAA',
      inline: null,
    },
  ],
  rows: 102,
  active: 1,
  state_hash: '000102030405060708090a0b0c0d0e0e',
  fold: {
    entries: 3,
    records: 5,
    ties: 1,
    added_hash: '00000000000000000000000000000001',
    removed_hash: '00000000000000000000000000000000',
  },
  totals: { entries: 300, records: 500, ties: 1, rows_written: 999 },
  policy: { retain_ms: 7_776_000_000, time_travel_ms: 86_400_000 },
  horizon: 1_787_400_000_000,
  intents: [{ run_id: 'maybe', revision: 1, looked_at: 1_795_176_100_000 }],
  tombstones: [{ run_id: 'gone', revision: 3, deleted_at: 1_795_176_070_000, folded_at: 1_795_176_100_000 }],
  quarantine: [
    {
      key: 'catalog/orgs/golden-org/log/0192d3c0-7e57-7000-8000-000000000004.json',
      reason: 'it is not JSON',
      since: 1_795_176_100_000,
    },
  ],
  garbage: [
    {
      name: '0192d3c0-7e57-7000-8000-000000000005',
      kind: 'entries',
      objects: 3,
      version: 42,
      committed_at: null,
    },
    {
      name: '0192d3c0-7e57-7000-8000-000000000006',
      kind: 'snapshot',
      objects: 1,
      version: 41,
      committed_at: 1_795_176_040_000,
    },
  ],
};

const garbage: GarbageList = {
  format: 1,
  org_id: ORG,
  version: 42,
  write_id: '0192d3c0-7e57-7000-8000-000000000001',
  kind: 'entries',
  objects: [
    {
      key: 'catalog/orgs/golden-org/log/0192d3c0-7e57-7000-8000-000000000007.json',
      generation: '1777369647609324',
    },
  ],
};

describe('format version 1', () => {
  const FILES = [
    ['run-v1.json', run, () => encodeRun(run), (body: Uint8Array) => decodeRun(KEY, body)],
    [
      'entry-v1.json',
      { format: 1, org_id: ORG, records: recordsV1 },
      null,
      (body: Uint8Array) => decodeEntry(KEY, ORG, body),
    ],
    [
      'entry-v1-projection-2.json',
      { format: 1, org_id: ORG, records },
      () => encodeEntry({ org_id: ORG, records }),
      (body: Uint8Array) => decodeEntry(KEY, ORG, body),
    ],
    [
      'manifest-v1.json',
      manifest,
      () => encodeManifest(manifest),
      (body: Uint8Array) => decodeManifest(KEY, ORG, body),
    ],
    [
      'garbage-v1.json',
      garbage,
      () => encodeGarbage(garbage),
      (body: Uint8Array) => decodeGarbage(KEY, ORG, body),
    ],
  ] as const;

  it.each(FILES)('%s is read as what it was written from, for ever', async (name, value, _, decode) => {
    expect(decode(await golden(name))).toEqual(value);
  });

  it.each(FILES)('%s is what is written today, byte for byte', async (name, _, encode) => {
    if (encode !== null) expect(text(encode())).toBe(text(await golden(name)));
  });

  it.each(FILES)('%s: a field that a later version added is no obstacle', async (name, value, _, decode) => {
    const later = { ...(JSON.parse(text(await golden(name))) as object), from_the_future: { x: 1 } };
    expect(decode(new TextEncoder().encode(JSON.stringify(later)))).toMatchObject(value);
  });

  it('a field of a run, a manifest or a list that this version does not know survives a rewrite', async () => {
    for (const [name, , , decode] of FILES.filter(([name]) => !name.startsWith('entry-'))) {
      const later = { ...(JSON.parse(text(await golden(name))) as object), from_the_future: { x: 1 } };
      expect(decode(new TextEncoder().encode(JSON.stringify(later)))).toMatchObject({
        from_the_future: { x: 1 },
      });
    }
  });

  it('the inline payload of the entry unpacks to the entry', async () => {
    const body = await golden('entry-v1.json');
    const payload = text(await golden('entry-v1.inline.txt'));
    const item = { key: KEY, generation: '1', sizeBytes: body.length, crc32c: crc32c(body), createdAt: 0 };
    const unpacked = inlineBody({ ...item, metadata: { [INLINE_KEY]: payload } });
    expect(unpacked && text(unpacked)).toBe(text(body));
  });

  it.runIf(SAME_ZLIB)('and is packed today into the same text', async () => {
    const payload = inlinePayload(await golden('entry-v1.json'), 8 * 1024);
    expect(payload).toEqual({ [INLINE_KEY]: text(await golden('entry-v1.inline.txt')) });
  });

  it('the dictionary of inline payloads is what it was', async () => {
    expect(text(DICTIONARY_V1)).toBe(text(await golden('dictionary-v1.txt')));
  });
});
