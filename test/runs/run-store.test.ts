import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, it } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { openFileStore } from '../../src/store/file.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { gcsForTest } from '../support/gcs.ts';
import { describeRunStore } from './run-store-contract.ts';
import { objectRunStore } from './run-store-objects.ts';

const objects = { scanOrder: 'key', closes: false } as const;

describeRunStore(
  'memory',
  async () => {
    const store = new MemoryStore();
    return objectRunStore(store, () => store.close());
  },
  { ...objects, pageRuns: 1_010 },
);

const root = mkdtempSync(join(tmpdir(), 'runfold-runs-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

describeRunStore(
  'file',
  async () => {
    const store = await openFileStore(join(root, randomUUID()), { clock: systemClock, fsync: false });
    return objectRunStore(store, () => store.close());
  },
  { ...objects, pageRuns: 1_010 },
);

const gcs = await gcsForTest();
if ('skipped' in gcs) {
  describe('run store contract: gcs', () => it.skip(`[skipped: ${gcs.skipped}]`));
} else {
  describeRunStore(
    'gcs',
    async () => {
      const store = await gcs.open(randomUUID());
      return objectRunStore(store, () => store.close());
    },
    {
      ...objects,
      pageRuns: 1_010,
      unconditionalRemove: gcs.capabilities.conditionalDelete
        ? undefined
        : 'the emulator ignores the precondition of deletes',
    },
  );
}
