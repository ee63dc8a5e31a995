/** Randomness as a dependency, so that one seed can drive a whole simulation. */
export interface Random {
  /** A uniform integer in [0, 2^32). */
  u32(): number;
}

const pool = new Uint32Array(256);
let used = pool.length;

export const systemRandom: Random = {
  u32() {
    if (used === pool.length) {
      crypto.getRandomValues(pool);
      used = 0;
    }
    return pool[used++]!;
  },
};

/** A uniform number in [0, 1). */
export function uniform(random: Random): number {
  return random.u32() / 0x1_0000_0000;
}

/** mulberry32: small, seedable, good enough for tests and simulations; never for secrets. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return {
    u32() {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = state;
      t = Math.imul(t ^ (t >>> 15), t | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return (t ^ (t >>> 14)) >>> 0;
    },
  };
}
