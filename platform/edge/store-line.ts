import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/** A request waits so long for the store's word. */
const WAIT_MS = 250;
/** While it is away it is asked so often. */
const ASK_AGAIN_MS = 500;
/** Between two lines of the log that tell of it. */
const TELL_MS = 60_000;
/** Questions that are under way at once: more would wait for the store's connections, and not for its word. */
const ASKED_MAX = 512;

/** Whether the store of the limits answers: one for all limits of a gateway, so that one that doesn't is found out once. */
export class StoreLine {
  readonly #log: Log;
  readonly #nowMs: () => number;
  readonly #waitMs: number;
  #askAgainMs = 0;
  #toldMs = Number.NEGATIVE_INFINITY;
  #isAway = false;
  #asked = 0;

  constructor({ log, metrics, nowMs, waitMs = WAIT_MS }: { log: Log; metrics: Metrics; nowMs: () => number; waitMs?: number | undefined }) {
    this.#log = log;
    this.#nowMs = nowMs;
    this.#waitMs = waitMs;
    const local = metrics.gauge("polis_limits_local", "1 while the limits' store is away, and each gateway counts for itself", []);
    metrics.measureWhenRead(() => local.set(this.#isAway ? 1 : 0));
  }

  get isAway(): boolean {
    return this.#isAway;
  }

  /** Whether it is time to ask a store that is away; the one who is told so asks. */
  isDue(): boolean {
    const nowMs = this.#nowMs();
    if (nowMs < this.#askAgainMs) return false;
    this.#askAgainMs = nowMs + ASK_AGAIN_MS;
    return true;
  }

  /** The store's answer; undefined where it has none, or none in time. */
  async ask<T extends { readonly isAway: boolean }>(question: () => Promise<T>): Promise<T | undefined> {
    if (this.#asked >= ASKED_MAX) return undefined;
    this.#asked += 1;
    let late: NodeJS.Timeout | undefined;
    const asked = question().finally(() => {
      this.#asked -= 1;
    });
    try {
      const answer = await Promise.race([
        asked,
        new Promise<undefined>((resolve) => {
          late = setTimeout(resolve, this.#waitMs, undefined);
        }),
      ]);
      if (answer === undefined || answer.isAway) return this.#away(new Error("the store of the limits is away, or slow"));
      this.#back();
      return answer;
    } catch (error) {
      return this.#away(error);
    } finally {
      clearTimeout(late);
      asked.catch(() => undefined);
    }
  }

  #away(error: unknown): undefined {
    const nowMs = this.#nowMs();
    this.#isAway = true;
    this.#askAgainMs = nowMs + ASK_AGAIN_MS;
    if (nowMs - this.#toldMs < TELL_MS) return undefined;
    this.#toldMs = nowMs;
    this.#log.warn({ err: error }, "limits are counted by each gateway for itself until the store answers again");
    return undefined;
  }

  #back(): void {
    if (this.#isAway) this.#log.info("limits are counted over all gateways again");
    this.#isAway = false;
  }
}
