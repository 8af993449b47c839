import type { DescMessage } from "@bufbuild/protobuf";
import type { ApplyOutcome, Guards } from "#platform/events/apply.ts";
import type { Database } from "#platform/postgres/database.ts";
import { isConnectionLost, isGivenUpWaiting, OutcomeUnknown } from "#platform/postgres/errors.ts";
import { lockPatience } from "#platform/postgres/lock-patience.ts";
import type { CallError } from "#platform/rpc/call-error.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";
import { type BatchItem, type BatchResult, isFaultOfAnItem, isolateBatch, runBatch } from "#platform/writes/batch.ts";
import { type Work, WorkQueue } from "#platform/writes/work-queue.ts";

export type BatchesOptions = {
  readonly service: string;
  readonly database: Database;
  readonly metrics: Metrics;
  /** The events that the service may publish. */
  readonly publishes: readonly DescMessage[];
  /** Told after each commit that left events in the outbox. */
  readonly published: () => void;
};

export type BatchSettings = {
  readonly batchMax: number;
  /** Batches at once: the database works on one while the next is made. Rows in common wait for each other by their locks. */
  readonly inFlightMax: number;
};

/** Puts the work of one service, of its callers and its consumers alike, into shared transactions. */
export class Batches {
  readonly #options: BatchesOptions;
  readonly #settings: BatchSettings;
  readonly #publishes: ReadonlySet<DescMessage>;
  readonly #queue = new WorkQueue();
  readonly #sizes;
  readonly #durations;
  readonly #apart: Work[] = [];
  #isApartBusy = false;
  #inFlight = 0;
  #scheduled = false;

  constructor(options: BatchesOptions, settings: BatchSettings) {
    this.#options = options;
    this.#settings = settings;
    this.#publishes = new Set(options.publishes);
    const { service, metrics } = options;
    this.#sizes = metrics
      .histogram("polis_batch_items", "Commands and events carried out in one transaction", ["service"], [1, 4, 16, 64, 256, 1024])
      .labels({ service });
    this.#durations = metrics
      .latency("polis_batch_duration_seconds", "From the start of a batch to its commit", ["service"])
      .recorder({ service });
  }

  /** Carries out `items` in one transaction, with whatever else waits; the outcome of each, in their order. */
  carryOut(
    items: readonly BatchItem[],
    guards: Guards | undefined,
    givenUp: () => CallError | undefined = () => undefined,
  ): Promise<readonly ApplyOutcome[]> {
    return new Promise((done, failed) => {
      this.#queue.push({ items, guards, givenUp, done, failed });
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#scheduled || this.#inFlight >= this.#settings.inFlightMax) return;
    this.#scheduled = true;
    // After what has arrived in this turn of the event loop: all of it shares the batch.
    setImmediate(() => {
      this.#scheduled = false;
      void this.#runNext();
    });
  }

  async #runNext(): Promise<void> {
    const taken = this.#queue.take(this.#settings.batchMax);
    if (taken.length === 0) return;
    this.#inFlight += 1;
    if (this.#queue.hasReady) this.#schedule();
    try {
      // Dropped before its batch, never after: what is in a batch is carried out and answered.
      await this.#share(taken.filter(isWanted));
    } finally {
      this.#inFlight -= 1;
      this.#queue.release(taken);
      if (this.#queue.hasReady) this.#schedule();
    }
  }

  /**
   * One transaction for all. Where a consumer's guard or statement stops it, or keeps it waiting for a lock, the commands are
   * carried out without the consumers' work, which then gets transactions of its own and no place among those in flight.
   */
  async #share(works: readonly Work[]): Promise<void> {
    if (works.length === 0) return;
    const guarded = works.filter(({ guards }) => guards !== undefined);
    let result: BatchResult;
    try {
      result = await this.#transact(works, SHARED_PATIENCE_MS);
    } catch (error) {
      if (guarded.length === 0 || !wroteNothing(error)) for (const { failed } of works) failed(error);
      else {
        await this.#share(works.filter(({ guards }) => guards === undefined));
        this.#apart.push(...guarded);
        void this.#carryOutApart();
      }
      return;
    }
    this.#tell(works, result);
  }

  /** One after the other, so that connections are left; what doesn't get its lock soon fails, and its consumer comes again later. */
  async #carryOutApart(): Promise<void> {
    if (this.#isApartBusy) return;
    this.#isApartBusy = true;
    for (let work = this.#apart.shift(); work !== undefined; work = this.#apart.shift()) {
      const { failed } = work;
      const result = await this.#transact([work], APART_PATIENCE_MS).catch((error: unknown) => void failed(error));
      if (result !== undefined) this.#tell([work], result);
    }
    this.#isApartBusy = false;
  }

  /** After the commit, and so outside of everything that might do the work again. */
  #tell(works: readonly Work[], { outcomes, published }: BatchResult): void {
    for (const [{ done }, own] of shares(works, outcomes)) done(own);
    if (published > 0) this.#options.published();
  }

  /** `patienceMs`: how long it waits for a lock where a consumer's work is among it. */
  async #transact(works: readonly Work[], patienceMs: number): Promise<BatchResult> {
    const startedMs = performance.now();
    const items = works.flatMap((work) => work.items);
    const guards = guardsOf(works, patienceMs);
    const { database } = this.#options;
    const batch = { items, guards, publishes: this.#publishes };
    this.#sizes.observe(items.length);
    try {
      // A unique index that refuses a row tells of a race as a rule: read anew, the batch sees the row it ran into.
      for (const attempt of [runBatch, runBatch]) {
        try {
          return await database.transaction((tx) => attempt(tx, batch));
        } catch (error) {
          if (!isFaultOfAnItem(error)) throw error;
        }
      }
      return await database.transaction((tx) => isolateBatch(tx, batch));
    } finally {
      this.#durations.observe((performance.now() - startedMs) / 1000);
    }
  }
}

function isWanted({ givenUp, failed }: Work): boolean {
  const reason = givenUp();
  if (reason !== undefined) failed(reason);
  return reason === undefined;
}

/** Surely nothing was written, and the database isn't away: whoever isn't to blame shouldn't suffer. */
const wroteNothing = (error: unknown): boolean => isGivenUpWaiting(error) || !(isConnectionLost(error) || error instanceof OutcomeUnknown);

/**
 * Another member may hold a consumer's fence, somebody may drop its dead letters: it waits for no lock for long beside commands,
 * nor, on its own, so long that others or a stop would wait for it. Milliseconds.
 */
const SHARED_PATIENCE_MS = 50;
const APART_PATIENCE_MS = 150;

function guardsOf(works: readonly Work[], patienceMs: number): Guards {
  const first = works.flatMap(({ guards }) => (guards === undefined ? [] : guards.first));
  return {
    first: works.some(({ guards }) => guards !== undefined) ? [lockPatience(patienceMs), ...first] : [],
    last: (outcomes) => shares(works, outcomes).flatMap(([{ guards }, own]) => guards?.last(own) ?? []),
  };
}

/** To each work the outcomes of its own items. */
function shares(works: readonly Work[], outcomes: readonly ApplyOutcome[]): [Work, readonly ApplyOutcome[]][] {
  let from = 0;
  return works.map((work) => {
    const to = from + work.items.length;
    const own = outcomes.slice(from, to);
    from = to;
    return [work, own];
  });
}
