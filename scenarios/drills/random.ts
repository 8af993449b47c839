/** Chance that can be had again: the same seed, the same numbers (mulberry32). */
export type Random = {
  /** At least `from`, less than `to`. */
  between(from: number, to: number): number;
  pick<T>(of: readonly T[]): T;
  chance(probability: number): boolean;
};

export function randomOf(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const between = (from: number, to: number): number => from + Math.floor(next() * (to - from));
  return { between, pick: (of) => of[between(0, of.length)] as (typeof of)[number], chance: (probability) => next() < probability };
}
