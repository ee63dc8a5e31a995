import { readFileSync } from 'node:fs';
import { InputError } from '../../src/core/errors.ts';

/** Throws InputError with `hint` when there is no such file, or no JSON in it. */
export function readJsonFile(path: string, hint: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new InputError(`${path} cannot be read: ${(cause as NodeJS.ErrnoException).code}.`, {
      hint,
      cause,
    });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InputError(`${path} is no JSON.`, { hint, cause });
  }
}
