import type { ApplyOutcome, Guards } from "#platform/events/apply.ts";
import type { Database } from "#platform/postgres/database.ts";
import { isConnectionLost, isGivenUpWaiting, OutcomeUnknown } from "#platform/postgres/errors.ts";
import type { AnswerGroup } from "#platform/reads/answer-cache.ts";
import type { CallError } from "#platform/rpc/call-error.ts";
import type { NewTask } from "#platform/tasks/task-types.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";
import { type BatchItem, type BatchResult, isFaultOfAnItem, isolateBatch, runBatch } from "#platform/writes/batch.ts";
import { HeldRows } from "#platform/writes/held-rows.ts";
import type { Manifest } from "#platform/writes/manifest.ts";
import { fullRefName } from "#platform/writes/table.ts";
import { isWanted, lockedRefs, type Work, WorkQueue } from "#platform/writes/work-queue.ts";

export type BatchesOptions = {
  readonly service: string;
  readonly database: Database;
  readonly metrics: Metrics;
  readonly manifest: Manifest;
  /** Told after each commit that left events in the outbox. */
  readonly published: () => void;
  /** Told after each commit that left tasks in their queues. */
  readonly enqueued: (tasks: readonly NewTask[]) => void;
  /** Waited for after each commit by which cached answers are over: who is answered then reads what was written. Never rejects. */
  readonly forgotten?: ((groups: readonly AnswerGroup[]) => Promise<void>) | undefined;
};

export type BatchSettings = {
  readonly batchMax: number;
  /** Batches at once: the database works on one while the next is made. Rows in common wait for each other by their locks. */
  readonly inFlightMax: number;
  /** How long a command waits for a row that somebody outside holds, in milliseconds; its caller may try again. */
  readonly heldMaxMs: number;
};

/** Puts the work of one service, of its callers and its consumers alike, into shared transactions. */
export class Batches {
  readonly #options: BatchesOptions;
  readonly #settings: BatchSettings;
  readonly #queue = new WorkQueue();
  readonly #sizes;
  readonly #durations;
  readonly #heldRows;
  readonly #apart: Apart[] = [];
  #isApartBusy = false;
  #inFlight = 0;
  #scheduled = false;

  constructor(options: BatchesOptions, settings: BatchSettings) {
    this.#options = options;
    this.#settings = settings;
    const { service, metrics, database } = options;
    this.#heldRows = new HeldRows({
      database,
      queue: this.#queue,
      heldMaxMs: settings.heldMaxMs,
      returned: () => this.#schedule(),
    });
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
    if (this.#scheduled || this.#inFlight >= this.#settings.inFlightMax || !this.#queue.hasReady) return;
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
    this.#schedule();
    // Dropped before its batch, never after: what is in a batch is carried out and answered.
    const kept = await this.#share(taken.filter(isWanted));
    this.#inFlight -= 1;
    this.#release(kept.size === 0 ? taken : taken.filter((work) => !kept.has(work)));
  }

  #release(works: readonly Work[]): void {
    this.#queue.release(works);
    this.#schedule();
  }

  /**
   * One transaction for all. Work that stops it, or keeps it waiting for a lock, is carried out apart, and the rest without it.
   * Gives the commands that go on apart: their rows aren't to be had by others before their end. Never rejects.
   */
  async #share(works: readonly Work[]): Promise<ReadonlySet<Work>> {
    if (works.length === 0) return NONE;
    const guarded = works.filter(({ guards }) => guards !== undefined);
    const isShort = guarded.length > 0 || this.#heldRows.areSome;
    let result: BatchResult;
    try {
      result = await this.#transact(works, isShort ? SHARED_SHORT_MS : SHARED_MS);
    } catch (error) {
      if (!wroteNothing(error) || (guarded.length === 0 && !isGivenUpWaiting(error))) return fail(works, error);
      if (guarded.length === 0) return this.#part(works, error);
      // A consumer's guards may have stopped it as well as a row. It keeps no rows: what is held may be its fence.
      for (const work of guarded) this.#carryOutApart({ works: [work], patienceMs: APART_MIN_MS, untilMs: 0 });
      return this.#share(works.filter(({ guards }) => guards === undefined));
    }
    await this.#tell(works, result);
    return NONE;
  }

  /** Commands that were kept waiting by a row that one of them names, or some of them. */
  async #part(works: readonly Work[], error: unknown): Promise<ReadonlySet<Work>> {
    let rest = works;
    try {
      rest = await this.#heldRows.takeFrom(works, error);
    } catch (cause) {
      // Else what is at fault is one of them, or a table that somebody has locked.
      if (isConnectionLost(cause) && !isGivenUpWaiting(cause)) return fail(works, cause);
    }
    if (rest.length < works.length) return this.#share(rest);
    // No row is held: a key may be about to be inserted, a table may be locked.
    const untilMs = performance.now() + this.#settings.heldMaxMs;
    for (const group of byFirstRow(works)) this.#carryOutApart({ works: group, patienceMs: APART_MIN_MS, untilMs });
    return new Set(works);
  }

  #carryOutApart(apart: Apart): void {
    this.#apart.push(apart);
    if (!this.#isApartBusy) void this.#carryOutAllApart();
  }

  /** One after the other, so that connections are left, and none for long, so that others or a stop needn't wait for it. */
  async #carryOutAllApart(): Promise<void> {
    this.#isApartBusy = true;
    for (let next = this.#apart.shift(); next !== undefined; next = this.#apart.shift()) {
      const { patienceMs, untilMs, error: before } = next;
      const works = next.works.filter(isWanted);
      try {
        if (before !== undefined && performance.now() >= untilMs) throw before;
        if (works.length > 0) await this.#tell(works, await this.#transact(works, patienceMs));
      } catch (error) {
        if (isGivenUpWaiting(error) && performance.now() < untilMs) {
          // Longer, for the server serves those who wait for a row in their order.
          this.#apart.push({ works, patienceMs: Math.min(patienceMs * 2, APART_MAX_MS), untilMs, error });
          const goOn = new Set(works);
          this.#release(next.works.filter((work) => !goOn.has(work)));
          continue;
        }
        fail(works, error);
      }
      this.#release(next.works);
    }
    this.#isApartBusy = false;
  }

  /** After the commit, and so outside of everything that might do the work again. */
  async #tell(works: readonly Work[], { outcomes, published, enqueued, forgotten }: BatchResult): Promise<void> {
    try {
      if (forgotten.length > 0) await this.#options.forgotten?.(forgotten);
    } finally {
      for (const [{ done }, own] of shares(works, outcomes)) done(own);
    }
    if (published > 0) this.#options.published();
    if (enqueued.length > 0) this.#options.enqueued(enqueued);
  }

  async #transact(works: readonly Work[], lockPatienceMs: number): Promise<BatchResult> {
    const startedMs = performance.now();
    const items = works.flatMap((work) => work.items);
    const guards = guardsOf(works);
    const { database, manifest } = this.#options;
    const batch = { items, guards, manifest };
    this.#sizes.observe(items.length);
    try {
      // A unique index that refuses a row tells of a race as a rule: read anew, the batch sees the row it ran into.
      for (const attempt of [runBatch, runBatch]) {
        try {
          return await database.transaction((tx) => attempt(tx, batch), { lockPatienceMs });
        } catch (error) {
          if (!isFaultOfAnItem(error)) throw error;
        }
      }
      return await database.transaction((tx) => isolateBatch(tx, batch), { lockPatienceMs });
    } finally {
      this.#durations.observe((performance.now() - startedMs) / 1000);
    }
  }
}

/** Surely nothing was written, and the database isn't away: whoever isn't to blame shouldn't suffer. */
const wroteNothing = (error: unknown): boolean => isGivenUpWaiting(error) || !(isConnectionLost(error) || error instanceof OutcomeUnknown);

/** How long a transaction waits for a lock, in milliseconds: between commands of processes, who have theirs for some ten of them. */
const SHARED_MS = 500;
/**
 * Beside consumers, for another member may hold a fence, and somebody may drop dead letters; and while somebody holds rows, of which
 * the next command may name another.
 */
const SHARED_SHORT_MS = 50;
const APART_MIN_MS = 150;
const APART_MAX_MS = 1_200;

/** Work that others don't wait for. */
type Apart = {
  readonly works: readonly Work[];
  readonly patienceMs: number;
  /** By performance.now: before, it is tried again where it didn't get its locks. */
  readonly untilMs: number;
  /** What it failed with the last time. */
  readonly error?: unknown;
};

const NONE: ReadonlySet<Work> = new Set();

function fail(works: readonly Work[], error: unknown): ReadonlySet<Work> {
  for (const { failed } of works) failed(error);
  return NONE;
}

function guardsOf(works: readonly Work[]): Guards {
  return {
    first: works.flatMap(({ guards }) => guards?.first ?? []),
    last: (outcomes) => shares(works, outcomes).flatMap(([{ guards }, own]) => guards?.last(own) ?? []),
  };
}

/** By the first row that each names; who names none is by itself. */
function byFirstRow(works: readonly Work[]): readonly (readonly Work[])[] {
  const groups = Map.groupBy(works, (work) => {
    const [first] = lockedRefs(work);
    return first === undefined ? work : fullRefName(first);
  });
  return [...groups.values()];
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
