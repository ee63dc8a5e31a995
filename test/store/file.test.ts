import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openFileStore } from '../../src/store/file.ts';
import { describeStore } from './contract.ts';

for (const fsync of [true, false]) {
  describeStore(
    `file, fsync ${fsync}`,
    async () => {
      const dir = await mkdtemp(join(tmpdir(), 'runfold-file-'));
      const store = await openFileStore(dir, { fsync });
      return {
        store,
        async close() {
          await store.close();
          await rm(dir, { recursive: true });
        },
      };
    },
    {
      capabilities: {
        listMetadata: true,
        metadataBytesMax: 8 * 1024,
        conditionalGet: true,
        conditionalDelete: true,
      },
    },
  );
}
