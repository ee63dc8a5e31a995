import { z } from 'zod';
import type { RunFilter } from '../catalog/views.ts';
import { RUN_STATUSES, type RunStatus } from '../runs/run.ts';
import { integer } from './integers.ts';

export const name = z.string().max(2_048);
const time = integer(0);

/** Query parameters that say which runs are meant; docs/SERVICE.md has them. */
export const filters = {
  namespace: name.optional().meta({ description: 'runs that write a table of this namespace' }),
  name: name.optional().meta({ description: 'runs that write a table of this name' }),
  status: z
    .string()
    .transform((value, context) => {
      const statuses = value.split(',');
      const wrong = statuses.filter((one) => !(RUN_STATUSES as readonly string[]).includes(one));
      if (wrong.length === 0) return statuses as RunStatus[];
      context.issues.push({ code: 'custom', input: value, message: `knows ${RUN_STATUSES.join(', ')}` });
      return z.NEVER;
    })
    .optional()
    .meta({ description: 'one or more, with commas between' }),
  kind: name.optional(),
  reference_id: name.optional(),
  queue: name.optional(),
  since: time.optional().meta({ description: 'created then or later, ms since the epoch' }),
  until: time.optional().meta({ description: 'created before then' }),
};

type Filters = { [K in keyof typeof filters]?: z.infer<(typeof filters)[K]> };

export function filterOf({
  namespace,
  name,
  status,
  kind,
  reference_id,
  queue,
  since,
  until,
}: Filters): RunFilter {
  const table = namespace === undefined && name === undefined ? undefined : { namespace, name };
  return { table, status, kind, reference_id, queue, since, until };
}
