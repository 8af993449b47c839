import type { EngineName } from "#platform/engines.testing.ts";
import type { Findings } from "./check.ts";
import type { Counts } from "./counts.ts";
import { type Random, randomOf } from "./random.ts";
import { type Addresses, type LoadOptions, type Shop, startLoad } from "./shop.ts";

/** What a round did and found. */
export type Round = {
  /** What was broken and when, in words. */
  readonly broken: string;
  /**
   * How long the repair took, until every process was ready again; where Polis repairs it alone, from the fault on. Of two, until the
   * other had ended every order.
   */
  readonly backMs: number;
  readonly findings: Findings;
};

/** A drill: a place that is made now and then, and what is broken there, round after round. */
export type Drill = {
  readonly name: string;
  /** One line for --list. */
  readonly text: string;
  /** Too long for a run of all. */
  readonly onlyByName?: boolean;
  /** Without these it isn't run. */
  readonly needs?: readonly EngineName[];
  openStage(): Promise<Stage>;
};

/** Polis as it runs in a drill; what a round leaves, the next one finds. */
export type Stage = {
  readonly folder: string;
  /** What was done so far. */
  counts(): Counts;
  /** Throws where something hangs: what should have come hasn't. */
  round(random: Random): Promise<Round>;
  /** What its processes said last. */
  said(): string;
  /** Ends what still runs; `keep`: its folder stays, to be looked at. */
  close(options: { readonly keep: boolean }): Promise<void>;
};

/** Does `work` while customers give commands; resolves when, besides, each of them is answered. */
export async function underLoad<T>(
  shop: Shop,
  addresses: Addresses,
  random: Random,
  work: () => Promise<T>,
  options?: LoadOptions,
): Promise<T> {
  // Numbers of their own: what customers draw depends on the machine's timing, what is broken must not.
  const load = startLoad(shop, addresses, randomOf(random.between(0, 2 ** 31)), options);
  try {
    const result = await work();
    await load.stop();
    return result;
  } finally {
    load.abandon();
  }
}
