import type { z } from 'zod';
import { InputError } from './errors.ts';

/** What a caller said, by its schema. Throws InputError, naming `what` and the field. */
export function checkInput<T>(what: string, schema: z.ZodType<T>, value: unknown, hint = FIELDS): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = issue === undefined || issue.path.length === 0 ? '' : ` at ${issue.path.join('.')}`;
  throw new InputError(`${what} is not valid${path}: ${issue?.message ?? 'it has the wrong shape'}.`, {
    hint,
    details: {
      issues: parsed.error.issues
        .slice(0, 20)
        .map(({ path: at, message: problem }) => ({ path: at.join('.'), problem })),
    },
  });
}

const FIELDS = 'docs/SCHEMA.md has the fields and their limits.';
