import type { ApplyOutcome, Guards } from "#platform/events/apply.ts";
import type { CallError } from "#platform/rpc/call-error.ts";
import type { BatchItem } from "#platform/writes/batch.ts";
import { type Ref, refName } from "#platform/writes/table.ts";

/** What is carried out in one transaction, whole: a command, or the events that a consumer has ready. */
export type Work = {
  readonly items: readonly BatchItem[];
  /** A consumer's; a command has none. */
  readonly guards: Guards | undefined;
  /** Why it needn't be begun any more, if so. */
  readonly givenUp: () => CallError | undefined;
  readonly done: (outcomes: readonly ApplyOutcome[]) => void;
  readonly failed: (error: unknown) => void;
};

/** Rows by their tables and values. */
class RowSet {
  readonly #tables = new Map<object, Set<string>>();

  add(refs: readonly Ref<object>[]): void {
    for (const ref of refs) {
      if (ref.table.immutable) continue;
      const values = this.#tables.get(ref.table);
      if (values === undefined) this.#tables.set(ref.table, new Set([refName(ref)]));
      else values.add(refName(ref));
    }
  }

  delete(refs: readonly Ref<object>[]): void {
    for (const ref of refs) this.#tables.get(ref.table)?.delete(refName(ref));
  }

  hasAny(refs: readonly Ref<object>[]): boolean {
    for (const ref of refs) if (this.#tables.get(ref.table)?.has(refName(ref)) === true) return true;
    return false;
  }
}

/**
 * Work that waits for a batch. Work whose rows a batch in flight works on waits for its end, and so does what came after it
 * for the same rows; others go ahead. Else batches would only wait for each other's locks: a hot row makes one large batch
 * after the other, and the rest of the world goes on beside it. Which rows two batches share is the database's affair all the
 * same; here it's a matter of speed.
 */
export class WorkQueue {
  #waiting: Work[] = [];
  /** Rows that batches in flight work on. */
  readonly #inFlight = new RowSet();

  get length(): number {
    return this.#waiting.length;
  }

  push(work: Work): void {
    this.#waiting.push(work);
  }

  /** Takes work of at most `max` items for a batch; `release` it at its end. */
  take(max: number): Work[] {
    const taken: Work[] = [];
    const left: Work[] = [];
    const held = new RowSet();
    let size = 0;
    for (const work of this.#waiting) {
      const fits = taken.length === 0 || size + work.items.length <= max;
      if (fits && work.items.every(({ named: { refs } }) => !this.#inFlight.hasAny(refs) && !held.hasAny(refs))) {
        taken.push(work);
        size += work.items.length;
      } else {
        for (const { named } of work.items) held.add(named.refs);
        left.push(work);
      }
    }
    this.#waiting = left;
    for (const { items } of taken) for (const { named } of items) this.#inFlight.add(named.refs);
    return taken;
  }

  release(taken: readonly Work[]): void {
    for (const { items } of taken) for (const { named } of items) this.#inFlight.delete(named.refs);
  }
}
