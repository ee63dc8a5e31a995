import { z } from 'zod';

/** Of a query: digits alone. `Number` takes nothing for 0, spaces around, and 1e3 and 0x10 for numbers. */
export function integer(minimum: number, maximum?: number) {
  const whole = z.int({ error: 'must be a whole number in decimal digits' }).min(minimum);
  return z
    .preprocess(
      (value) => (/^\d{1,15}$/.test(String(value)) ? Number(value) : value),
      maximum === undefined ? whole : whole.max(maximum),
    )
    .meta({ type: 'integer', minimum, ...(maximum === undefined ? {} : { maximum }) });
}
