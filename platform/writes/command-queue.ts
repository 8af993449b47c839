import type { ApplyOutcome } from "#platform/events/apply.ts";
import type { CommandItem } from "#platform/writes/command-item.ts";
import { type Ref, refName } from "#platform/writes/table.ts";

export type Waiting = {
  readonly item: CommandItem;
  readonly resolve: (outcome: ApplyOutcome) => void;
  readonly reject: (error: unknown) => void;
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
 * Commands that wait for a batch. A command whose rows a batch in flight works on waits for its end, and so does what came
 * after it for the same rows; others go ahead. Else batches would only wait for each other's locks: a hot row makes one
 * large batch after the other, and the rest of the world goes on beside it. Which rows two batches share is the database's
 * affair all the same; here it's a matter of speed.
 */
export class CommandQueue {
  #waiting: Waiting[] = [];
  readonly #inFlight = new RowSet();

  get length(): number {
    return this.#waiting.length;
  }

  push(waiting: Waiting): void {
    this.#waiting.push(waiting);
  }

  /** Takes at most `max` commands for a batch; `release` them at its end. None where most would have to wait: they'd better share one. */
  take(max: number): Waiting[] {
    const wanted = Math.min(this.#waiting.length, max);
    const batch: Waiting[] = [];
    const left: Waiting[] = [];
    const held = new RowSet();
    for (const waiting of this.#waiting) {
      const { refs } = waiting.item.named;
      if (batch.length === max || this.#inFlight.hasAny(refs) || held.hasAny(refs)) {
        held.add(refs);
        left.push(waiting);
      } else batch.push(waiting);
    }
    if (batch.length * 2 < wanted) return [];
    this.#waiting = left;
    for (const { item } of batch) this.#inFlight.add(item.named.refs);
    return batch;
  }

  release(batch: readonly Waiting[]): void {
    for (const { item } of batch) this.#inFlight.delete(item.named.refs);
  }
}
