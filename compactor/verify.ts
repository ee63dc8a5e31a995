import type { CompactorContext } from './context.ts';
import { verifyChain } from './verify-chain.ts';
import { verifyObjects } from './verify-objects.ts';
import type { Verified, VerifyOptions } from './verify-report.ts';
import { verifyRows } from './verify-rows.ts';

/**
 * Holds laws 8, 5 and 2 against real storage: reads every object of the org, and every canonical run. Writers and
 * compactors may go on meanwhile: what looks wrong is looked at again before it is called a problem.
 */
export async function verifyOrg(
  context: CompactorContext,
  orgId: string,
  options: VerifyOptions = {},
): Promise<Verified> {
  const verified: Verified = {
    org_id: orgId,
    problems: [],
    checked: { objects: 0, bytes: 0, manifests: 0, runs: 0, rows: 0 },
  };
  const manifests = await verifyObjects(context, verified, options);
  await verifyChain(context, verified, manifests, options);
  await verifyRows(context, verified, options);
  return verified;
}
