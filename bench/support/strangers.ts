import { seededRandom } from '../../src/core/random.ts';
import { uuidv7 } from '../../src/core/uuid.ts';
import { manifestKey, runKey } from '../../src/store/keys.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';

const RUNS_PER_ORG = 1_000;

/**
 * Other orgs' canonical runs and manifests, as keys with next to nothing behind them: their bodies are not read by who
 * must not read them. Half of the orgs sort before, half behind the one that is measured.
 */
export async function addStrangers(
  store: ObjectStore,
  runs: number,
  seed: number,
  onProgress: (done: number) => void,
): Promise<void> {
  const random = seededRandom(seed);
  const body = new Uint8Array([0x7b, 0x7d]);
  for (let done = 0; done < runs; done++) {
    const at = Math.floor(done / RUNS_PER_ORG);
    const orgId = `${at % 2 === 0 ? 'a' : 'z'}-org-${at}`;
    await store.put(runKey(orgId, uuidv7(Date.UTC(2026, 9, 1) + done, random)), body);
    if (done % RUNS_PER_ORG === 0) {
      await store.put(manifestKey(orgId), body);
      onProgress(done);
    }
  }
}
