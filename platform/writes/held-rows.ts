import { setTimeout as sleep } from "node:timers/promises";
import type { Database } from "#platform/postgres/database.ts";
import { isGivenUpWaiting } from "#platform/postgres/errors.ts";
import { allEnded } from "#platform/writes/batch.ts";
import { Picture } from "#platform/writes/picture.ts";
import { fullRefName, type Ref, refName, type Table } from "#platform/writes/table.ts";
import { rowsOf, type SelectLock, selectStatement } from "#platform/writes/table-statements.ts";
import { isWanted, lockedRefs, type Work, type WorkQueue } from "#platform/writes/work-queue.ts";

const LOOK_EVERY_MS = 25;
/** For the tables themselves, which somebody may have locked: the rows that were looked at aren't kept for longer either. */
const LOOK_PATIENCE_MS = 50;

type Held = { readonly ref: Ref<object>; works: Work[]; readonly error: unknown };

/**
 * Rows that somebody outside holds (another process that is frozen, a person's SQL), with the commands that wait for them. No
 * transaction waits: all these rows are looked at together every now and then, and whose row is free goes back into the queue.
 * Until then the queue gives out nothing that names one.
 */
export class HeldRows {
  readonly #database: Database;
  readonly #queue: WorkQueue;
  readonly #heldMaxMs: number;
  /** Told when work went back into the queue. */
  readonly #returned: () => void;
  readonly #rows = new Map<string, Held>();
  /** By performance.now, until when a command waits; also where it is held up more than once. */
  readonly #untilMs = new WeakMap<Work, number>();
  #isLooking = false;

  constructor(options: {
    readonly database: Database;
    readonly queue: WorkQueue;
    readonly heldMaxMs: number;
    readonly returned: () => void;
  }) {
    this.#database = options.database;
    this.#queue = options.queue;
    this.#heldMaxMs = options.heldMaxMs;
    this.#returned = options.returned;
  }

  get areSome(): boolean {
    return this.#rows.size > 0;
  }

  /**
   * Takes over those of the works that name a row which somebody holds just now, and returns the rest. `error` is what their
   * batch failed with, and what they fail with in the end. Throws what the database does where it can't be asked.
   */
  async takeFrom(works: readonly Work[], error: unknown): Promise<readonly Work[]> {
    const held = new Set(await this.#heldAmong(works.flatMap(lockedRefs)));
    const rest: Work[] = [];
    for (const work of works) {
      const ref = lockedRefs(work).find((named) => held.has(fullRefName(named)));
      if (ref === undefined) rest.push(work);
      else this.#keep(ref, work, error);
    }
    if (!this.#isLooking && this.areSome) void this.#lookUntilFree();
    return rest;
  }

  #keep(ref: Ref<object>, work: Work, error: unknown): void {
    if (!this.#untilMs.has(work)) this.#untilMs.set(work, performance.now() + this.#heldMaxMs);
    const held = this.#rows.get(fullRefName(ref));
    if (held !== undefined) held.works.push(work);
    else {
      this.#queue.hold(ref);
      this.#rows.set(fullRefName(ref), { ref, works: [work], error });
    }
  }

  async #lookUntilFree(): Promise<void> {
    this.#isLooking = true;
    while (this.areSome) {
      await sleep(LOOK_EVERY_MS);
      const lookedAt = [...this.#rows.values()];
      const names = await this.#heldAmong(lookedAt.map(({ ref }) => ref)).catch((error: unknown) => {
        // A table is locked: nothing can be said of its rows now.
        if (isGivenUpWaiting(error)) return lookedAt.map(({ ref }) => fullRefName(ref));
        for (const held of lookedAt) for (const { failed } of held.works.splice(0)) failed(error);
        return [];
      });
      const stillHeld = new Set(names);
      for (const held of lookedAt) {
        held.works = held.works.filter(isWanted);
        if (stillHeld.has(fullRefName(held.ref))) this.#dropLate(held);
        else this.#giveBack(held);
      }
    }
    this.#isLooking = false;
  }

  #dropLate(held: Held): void {
    const nowMs = performance.now();
    const isLate = (work: Work): boolean => (this.#untilMs.get(work) ?? 0) <= nowMs;
    for (const work of held.works.filter(isLate)) work.failed(held.error);
    held.works = held.works.filter((work) => !isLate(work));
    // Others may wait in the queue for the row, whose time hasn't come.
    if (held.works.length === 0) this.#giveBack(held);
  }

  #giveBack({ ref, works }: Held): void {
    this.#rows.delete(fullRefName(ref));
    this.#queue.free(ref);
    for (const work of works) this.#queue.push(work);
    this.#returned();
  }

  /** The names of those of these rows that are there and that somebody holds. */
  async #heldAmong(refs: readonly Ref<object>[]): Promise<string[]> {
    const tables = new Map<Table<object>, Map<string, Ref<object>>>();
    for (const ref of refs) tables.set(ref.table, (tables.get(ref.table) ?? new Map()).set(refName(ref), ref));
    const there = new Picture();
    const free = new Picture();
    await this.#database.transaction(
      async (tx) => {
        const look = async (picture: Picture, table: Table<object>, lock: SelectLock): Promise<void> => {
          const named = [...(tables.get(table)?.values() ?? [])];
          picture.load(table, rowsOf(table, await tx.query(selectStatement(table, named, lock))));
        };
        const looks = [...tables.keys()].flatMap((table) => [look(there, table, "none"), look(free, table, "skip")]);
        await allEnded(looks);
      },
      { lockPatienceMs: LOOK_PATIENCE_MS },
    );
    return refs.filter((ref) => there.row(ref) !== undefined && free.row(ref) === undefined).map(fullRefName);
  }
}
