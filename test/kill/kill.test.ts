import { describe, expect, it } from 'vitest';
import { killAround } from './kill.ts';

describe('kill -9', () => {
  it('of writers and compactors in the middle of their work loses nothing acknowledged', {
    timeout: 120_000,
  }, async () => {
    const { problems, acknowledged, versions, kills } = await killAround(20, 7);
    expect(problems).toEqual([]);
    expect(kills.writer + kills.compactor).toBe(20);
    expect(acknowledged).toBeGreaterThan(0);
    expect(versions).toBeGreaterThan(0);
  });
});
