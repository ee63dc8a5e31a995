import { z } from 'zod';
import { OutcomeUnknownError } from '../core/errors.ts';
import { checkStored, encodeStored, parseStored } from '../core/stored-json.ts';
import { runKeyClaimKey } from '../store/keys.ts';
import { ABSENT, type ObjectStore } from '../store/object-store.ts';

export const CLAIM_FORMAT = 1;

const claimSchema = z.looseObject({
  format: z.literal(CLAIM_FORMAT),
  run_id: z.string(),
  /** Of the first request under this key. */
  fingerprint: z.string(),
});
export type RunKeyClaim = z.infer<typeof claimSchema>;

/** Which run a caller's own key stands for, per queue: the first request that claims a key decides, for ever. */
export class RunKeys {
  readonly #store: ObjectStore;

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  /** The claim that holds, which may be another's. One PUT; one GET more where the key was taken. */
  async claim(
    orgId: string,
    queue: string | null,
    runKey: string,
    wanted: Pick<RunKeyClaim, 'run_id' | 'fingerprint'>,
    signal?: AbortSignal,
  ): Promise<RunKeyClaim> {
    const key = runKeyClaimKey(orgId, queue, runKey);
    const claim: RunKeyClaim = { format: CLAIM_FORMAT, ...wanted };
    const put = await this.#store.put(key, encodeStored(claim), {
      ifGeneration: ABSENT,
      contentType: 'application/json',
      signal,
    });
    if (put.outcome === 'written') return claim;
    const got = await this.#store.get(key, { signal });
    if (got.outcome === 'found')
      return checkStored(key, claimSchema, parseStored(key, 'claim', CLAIM_FORMAT, got.body));
    throw new OutcomeUnknownError(`The store did not confirm the run key ${runKey}.`, {
      cause: put.outcome === 'unknown' ? put.cause : undefined,
    });
  }
}
