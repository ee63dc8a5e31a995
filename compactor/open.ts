import type { Limits } from '../src/core/limits.ts';
import type { Session } from '../src/session.ts';
import { type PartCodecName, partCodec } from '../src/snapshot/codec.ts';
import type { CompactorContext } from './context.ts';

/**
 * A compactor on a session's store and clock; with other limits than the session's where they are given. No request is
 * made; the codec's library is loaded.
 */
export async function openCompactor(
  session: Session,
  codec?: PartCodecName,
  limits: Limits = session.limits,
): Promise<CompactorContext> {
  const { store, runs, clock, random, telemetry } = session;
  return { store, runs, codec: await partCodec(codec), clock, random, limits, telemetry };
}
