import { z } from 'zod';
import { CorruptError } from '../src/core/errors.ts';
import type { Run } from '../src/runs/run.ts';
import { hashOf } from './migrate.ts';

/**
 * What a copy of a flat run says of its origin. While the copy's revision is the one named here, nothing but backfill
 * has written it; afterwards it still tells which flat state it began with.
 */
const flatCopySchema = z.looseObject({
  /** Of the copy when it was written. Above `flat_revision` where the flat run changed and its revision did not. */
  revision: z.number().int().positive(),
  flat_revision: z.number().int().positive(),
  /** Of the flat run's content. */
  sha256: z.string(),
});

export type FlatJudgement = { outcome: 'known' } | { outcome: 'copy'; run: Run };

/**
 * What a flat run means beside its org's copy. `known`: the copy holds this very state, or a later one; the flat object
 * may go. `copy`: `run` is to be written. Throws CorruptError where both changed and neither is known to follow the
 * other: nothing may be written or deleted then. Software that never counted revisions is told by `updated_at`, as long
 * as only backfill has written the copy.
 */
export function judgeFlat(key: string, flat: Run, stored: Run | null): FlatJudgement {
  const { flat_copy: _, ...own } = flat;
  const run = own as Run;
  const sha256 = hashOf(run);
  const copy = (revision: number): FlatJudgement => ({
    outcome: 'copy',
    run: {
      ...run,
      ...(revision === run.revision
        ? {}
        : { revision, indexed_revision: revision, indexed_at: run.updated_at }),
      flat_copy: { revision, flat_revision: run.revision, sha256 },
    },
  });
  if (stored === null || run.revision > stored.revision) return copy(run.revision);
  const mark = flatCopySchema.safeParse(stored.flat_copy).data;
  if (mark === undefined ? hashOf(stored) === sha256 : mark.sha256 === sha256) return { outcome: 'known' };
  // Whoever deleted the run did not want its flat copy back.
  if (stored.deleted_at !== null) return { outcome: 'known' };
  const isLater = run.updated_at > stored.updated_at;
  if (mark?.revision === stored.revision && run.revision >= mark.flat_revision && isLater)
    return copy(stored.revision + 1);
  const seen = mark?.revision === stored.revision ? mark.flat_revision : stored.revision;
  if (run.revision < seen && !isLater) return { outcome: 'known' };
  throw new CorruptError(
    key,
    `it differs from ${stored.org_id}'s copy, and neither is known to follow the other (flat: revision ${run.revision}, ${run.status}, ` +
      `updated_at ${run.updated_at}; copy: revision ${stored.revision}, ${stored.status}, updated_at ${stored.updated_at}); ` +
      `where the flat run is right, set its revision to ${stored.revision + 1}, else delete it, and run backfill again`,
  );
}
