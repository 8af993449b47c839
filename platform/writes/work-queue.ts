import TinyQueue from "tinyqueue";
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

/** Whether it is still to be carried out; who isn't any more is told why. */
export function isWanted({ givenUp, failed }: Work): boolean {
  const reason = givenUp();
  if (reason !== undefined) failed(reason);
  return reason === undefined;
}

/** What is locked of it. Rows that never change are everybody's. */
export function lockedRefs({ items }: Work): readonly Ref<object>[] {
  const refs: Ref<object>[] = [];
  for (const { named } of items) for (const ref of named.refs) if (!ref.table.immutable) refs.push(ref);
  return refs;
}

/** A row that some work names: who has it, and who waits for it in the order of arrival. */
class Row {
  readonly names: Map<string, Row>;
  readonly name: string;
  /** Works of the batch in flight that has it, and whoever holds it. */
  inFlight = 0;
  /** Of the last time that work was put in which names it. */
  mark = -1;
  #waiting: Waiting[] = [];
  #first = 0;

  constructor(names: Map<string, Row>, name: string) {
    this.names = names;
    this.name = name;
  }

  get isFree(): boolean {
    return this.inFlight === 0 && this.first === undefined;
  }

  get first(): Waiting | undefined {
    return this.#waiting[this.#first];
  }

  /** In its place by arrival: so no two wait for each other, whatever rows they share. */
  add(waiting: Waiting): void {
    let at = this.#waiting.length;
    while (at > this.#first && (this.#waiting[at - 1]?.number ?? 0) > waiting.number) at -= 1;
    if (at === this.#waiting.length) this.#waiting.push(waiting);
    else this.#waiting.splice(at, 0, waiting);
  }

  shift(): void {
    this.#first += 1;
    // Now and then, so that a queue that never runs empty costs no more than what waits in it.
    if (this.#first * 2 < this.#waiting.length) return;
    this.#waiting = this.#waiting.slice(this.#first);
    this.#first = 0;
  }
}

type Waiting = {
  readonly work: Work;
  /** Of arrival. */
  readonly number: number;
  readonly rows: readonly Row[];
  /** How many of its rows are in flight, or wanted by work that came before. */
  blockedBy: number;
  isQueued: boolean;
};

/**
 * Work that waits for a batch. Work whose rows a batch in flight works on waits for its end, and so does what came after it
 * for the same rows; others go ahead. Else batches would only wait for each other's locks: a hot row makes one large batch
 * after the other, and the rest of the world goes on beside it. Which rows two batches share is the database's affair all the
 * same; here it's a matter of speed. What waits for a row is looked at again when its turn comes and not before, so others
 * don't pay for how much it is.
 */
export class WorkQueue {
  readonly #tables = new Map<object, Map<string, Row>>();
  readonly #inFlight = new Map<Work, readonly Row[]>();
  /** By arrival, what is blocked by nothing; and what was blocked since it was put here, which is passed over. */
  readonly #ready = new TinyQueue<Waiting>([], (a, b) => a.number - b.number);
  /** When work arrived first: what comes back has its old place. */
  readonly #numbers = new WeakMap<Work, number>();
  #arrived = 0;
  #mark = 0;

  /** Whether there is something to take. */
  get hasReady(): boolean {
    return this.#firstReady() !== undefined;
  }

  /** Puts work in, or back in. */
  push(work: Work): void {
    const number = this.#numbers.get(work) ?? this.#arrived++;
    this.#numbers.set(work, number);
    const waiting: Waiting = { work, number, rows: this.#rowsOf(work), blockedBy: 0, isQueued: false };
    for (const row of waiting.rows) this.#waitFor(row, waiting);
    if (waiting.blockedBy === 0) this.#enqueue(waiting);
  }

  /** Takes work of at most `max` items for a batch, or one work of more; `release` it at its end. */
  take(max: number): Work[] {
    const taken: Work[] = [];
    const held = new Set<Row>();
    let size = 0;
    for (let next = this.#firstReady(); next !== undefined; next = this.#firstReady()) {
      const { work, rows } = next;
      if (taken.length > 0 && size + work.items.length > max) break;
      this.#ready.pop();
      taken.push(work);
      size += work.items.length;
      this.#inFlight.set(work, rows);
      for (const row of rows) {
        held.add(row);
        row.inFlight += 1;
        row.shift();
        // What comes next for the row may come along.
        this.#unblock(row.first);
      }
    }
    // It hasn't come along: it waits for the end of this batch.
    for (const { first } of held) if (first !== undefined) first.blockedBy += 1;
    return taken;
  }

  release(taken: readonly Work[]): void {
    for (const work of taken) {
      for (const row of this.#inFlight.get(work) ?? []) this.#leave(row);
      this.#inFlight.delete(work);
    }
  }

  /** Gives out nothing that names this row until it is freed. */
  hold(ref: Ref<object>): void {
    const row = this.#row(ref);
    row.inFlight += 1;
    if (row.inFlight === 1 && row.first !== undefined) row.first.blockedBy += 1;
  }

  free(ref: Ref<object>): void {
    this.#leave(this.#row(ref));
  }

  #waitFor(row: Row, waiting: Waiting): void {
    const before = row.first;
    row.add(waiting);
    if (row.inFlight > 0 || row.first !== waiting) waiting.blockedBy += 1;
    // It has come back to a place ahead of one that was blocked by nothing here.
    else if (before !== undefined) before.blockedBy += 1;
  }

  #leave(row: Row): void {
    row.inFlight -= 1;
    if (row.isFree) row.names.delete(row.name);
    else if (row.inFlight === 0) this.#unblock(row.first);
  }

  #firstReady(): Waiting | undefined {
    for (let first = this.#ready.peek(); first !== undefined; first = this.#ready.peek()) {
      if (first.blockedBy === 0) return first;
      this.#ready.pop();
      first.isQueued = false;
    }
    return undefined;
  }

  #unblock(waiting: Waiting | undefined): void {
    if (waiting === undefined) return;
    waiting.blockedBy -= 1;
    if (waiting.blockedBy === 0) this.#enqueue(waiting);
  }

  #enqueue(waiting: Waiting): void {
    if (waiting.isQueued) return;
    waiting.isQueued = true;
    this.#ready.push(waiting);
  }

  /** Each row once. */
  #rowsOf(work: Work): readonly Row[] {
    const mark = this.#mark++;
    const rows: Row[] = [];
    for (const ref of lockedRefs(work)) {
      const row = this.#row(ref);
      if (row.mark === mark) continue;
      row.mark = mark;
      rows.push(row);
    }
    return rows;
  }

  #row(ref: Ref<object>): Row {
    let names = this.#tables.get(ref.table);
    if (names === undefined) {
      names = new Map();
      this.#tables.set(ref.table, names);
    }
    const name = refName(ref);
    let row = names.get(name);
    if (row === undefined) {
      row = new Row(names, name);
      names.set(name, row);
    }
    return row;
  }
}
