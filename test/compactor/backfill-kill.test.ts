import { describe, expect, it } from 'vitest';
import { killBackfill } from '../kill/backfill.ts';

/** `kill -9` of a whole process, at random times, while writers go on. `npm run kill -- backfill` is the long form. */
describe('runfold backfill', () => {
  it('killed again and again and resumed beside writers, it ends with no drift', {
    timeout: 120_000,
  }, async () => {
    const done = await killBackfill({ runs: 900, kills: 4, seed: 7, unitRuns: 100, withinMs: 700 });
    expect(done).toMatchObject({ kills: 4, drift: 0, problems: [] });
    expect(done.written.created).toBeGreaterThan(0);
    expect(done.written.changed).toBeGreaterThan(0);
  });
});
