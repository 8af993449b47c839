import { setTimeout as sleep } from "node:timers/promises";

const WARM_UPS = 100;
const TIMES = 250;

/** What `run` gives 250 times, one after the other, each after a rest; some before them warm up and don't count. */
export async function repeat<T>(pauseMs: number, run: () => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let i = -WARM_UPS; i < TIMES; i++) {
    const result = await run();
    if (i >= 0) results.push(result);
    if (pauseMs > 0) await sleep(pauseMs);
  }
  return results;
}

/** The value below which this part of them lies. */
export const quantile = (values: readonly number[], part: number): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length * part)] ?? Number.NaN;
