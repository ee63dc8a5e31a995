import { errorMessage } from '../../src/core/errors.ts';
import { openFileStore } from '../../src/store/file.ts';
import { openGcsStore } from '../../src/store/gcs.ts';
import type { LatencyProfile } from '../../src/store/latency.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { startStack } from '../external/stack.ts';
import { copyObjects } from '../support/copy.ts';
import { temporaryFolder } from '../support/temporary.ts';
import type { Asked } from './child.ts';

/** Where fresh processes find their data, as slow as a latency profile says. */
export interface Place {
  /** For the report: what a process opens. */
  about: string;
  asked(seed: number): Pick<Asked, 'store' | 'latency'>;
  /** Before a process begins that is to draw from the start of this seed. */
  before(seed: number): Promise<void>;
  close(): Promise<void>;
}

/** Over HTTP, with connections to open, where emulator and proxy can be had; on files where they cannot. */
export async function placeFor(memory: ObjectStore, profile: LatencyProfile): Promise<Place> {
  try {
    return await overHttp(memory, profile);
  } catch (error) {
    return onFiles(memory, profile, errorMessage(error));
  }
}

async function overHttp(memory: ObjectStore, profile: LatencyProfile): Promise<Place> {
  const stack = await startStack(profile);
  try {
    const store = await openGcsStore({ bucket: stack.bucket, endpoint: stack.direct });
    await copyObjects(memory, store);
    await store.close();
  } catch (error) {
    await stack.stop();
    throw error;
  }
  return {
    about:
      'it opens its connections to an emulator of Cloud Storage, behind the gateway and the proxy of `rivals`',
    asked: () => ({ store: { bucket: stack.bucket, endpoint: stack.slow }, latency: null }),
    before: (seed) => stack.draw({ profile, seed }),
    close: () => stack.stop(),
  };
}

export async function onFiles(memory: ObjectStore, profile: LatencyProfile, why: string): Promise<Place> {
  const folder = temporaryFolder('runfold-fresh-');
  const dir = folder.path;
  const store = await openFileStore(dir, { fsync: false });
  await copyObjects(memory, store);
  await store.close();
  return {
    about: `on a file store as slow as the profile, so opening connections is not in it: ${why}`,
    asked: (seed) => ({ store: { dir }, latency: { profile, seed } }),
    before: async () => undefined,
    close: async () => folder.remove(),
  };
}
