import type { DescMessage, DescMethod, Message, MessageInitShape } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { callerName } from "#platform/access/caller.ts";
import { cacheGroup, methodName } from "#platform/contract/method-options.ts";
import type { ApplyItem, ApplyOutcome, GuardStatement, Guards } from "#platform/events/apply.ts";
import { newEvent } from "#platform/events/event-types.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { uuidv7 } from "#platform/ids.ts";
import { outboxInsert } from "#platform/outbox/outbox.ts";
import type { Statement, Transaction } from "#platform/postgres/database.ts";
import { isDataError, isUniqueViolation } from "#platform/postgres/errors.ts";
import type { AnswerGroup } from "#platform/reads/answer-cache.ts";
import { isRejection, type Rejection, reject } from "#platform/rejection.ts";
import { cancelTasks, enqueueTasks, lockRunning } from "#platform/tasks/task-statements.ts";
import { type EnqueueOptions, type NewTask, newTask } from "#platform/tasks/task-types.ts";
import type { EventDataInit, Tx } from "#platform/writes/definitions.ts";
import { answers, type Command, repeatedAnswer, storedAnswer } from "#platform/writes/idempotency.ts";
import type { Manifest } from "#platform/writes/manifest.ts";
import type { NamedRows } from "#platform/writes/named-rows.ts";
import { Picture, UniqueValueTaken } from "#platform/writes/picture.ts";
import { type Ref, refName, type Table, takenCode } from "#platform/writes/table.ts";
import { rowsOf, selectStatement } from "#platform/writes/table-statements.ts";

/** An item with what the batch knows of it. */
export type BatchItem = {
  readonly item: ApplyItem;
  readonly command: Command | undefined;
  readonly named: NamedRows;
};

type Slice = {
  readonly items: readonly BatchItem[];
  readonly manifest: Manifest;
  /** What is answered whatever the items say themselves: the database has refused what they wrote. */
  readonly refused?: Rejection | undefined;
};

export type Batch = Slice & { readonly guards: Guards };

/**
 * Carries out many items in one transaction, in two round trips:
 *   1. lock the union of the rows they name, in the order of ids, and read what was decided of their commands;
 *   2. after each item's `write` has run over this one picture: one statement a table, answers, events, COMMIT.
 * A later item sees what an earlier one left; a rejection, unless it keeps what was written, or a fault discards its own item alone.
 */
export async function runBatch(tx: Transaction, { items, guards, manifest }: Batch): Promise<BatchResult> {
  const { statements, ...result } = await decide(tx, { items, manifest }, guards.first);
  await tx.commit([...guards.last(result.outcomes), ...statements]);
  return result;
}

/**
 * The same for a batch that the database refused for its data: halves behind savepoints, down to the items at fault. A
 * conflict that a table's definition names becomes that item's rejection.
 */
export async function isolateBatch(tx: Transaction, { items, guards, manifest }: Batch): Promise<BatchResult> {
  await allEnded(guards.first.map((guard) => checked(tx, guard)));
  const result = await runSlice(tx, { items, manifest }, 0);
  await tx.commit(guards.last(result.outcomes));
  return result;
}

export type BatchResult = {
  readonly outcomes: ApplyOutcome[];
  /** How many events. */
  readonly published: number;
  readonly enqueued: readonly NewTask[];
  /** Cached answers that are over. */
  readonly forgotten: readonly AnswerGroup[];
};

/** How often an item alone is tried when a unique index refuses it: somebody else may be committing the row it should see. */
const CONFLICT_TRIES = 3;

async function runSlice(tx: Transaction, slice: Slice, conflicts: number): Promise<BatchResult> {
  const { items } = slice;
  await tx.query({ text: "SAVEPOINT slice" });
  try {
    const { statements, ...result } = await decide(tx, slice, []);
    await allEnded(statements.map((statement) => tx.query(statement)));
    await tx.query({ text: "RELEASE SAVEPOINT slice" });
    return result;
  } catch (error) {
    if (!isFaultOfAnItem(error)) throw error;
    await tx.query({ text: "ROLLBACK TO SAVEPOINT slice" });
    await tx.query({ text: "RELEASE SAVEPOINT slice" });
    const [only] = items;
    if (items.length === 1 && only !== undefined) return runAlone(tx, slice, only, error, conflicts);
    const middle = Math.ceil(items.length / 2);
    const first = await runSlice(tx, { ...slice, items: items.slice(0, middle) }, 0);
    const second = await runSlice(tx, { ...slice, items: items.slice(middle) }, 0);
    return {
      outcomes: [...first.outcomes, ...second.outcomes],
      published: first.published + second.published,
      enqueued: [...first.enqueued, ...second.enqueued],
      forgotten: [...first.forgotten, ...second.forgotten],
    };
  }
}

async function runAlone(tx: Transaction, slice: Slice, item: BatchItem, error: unknown, conflicts: number): Promise<BatchResult> {
  const failed: BatchResult = { outcomes: [{ kind: "failed", error }], published: 0, enqueued: [], forgotten: [] };
  if (!isUniqueViolation(error)) return failed;
  if (conflicts + 1 < CONFLICT_TRIES) return runSlice(tx, slice, conflicts + 1);
  const code = conflictCode(item, error.constraint ?? "");
  if (code === undefined) return failed;
  return runSlice(tx, { ...slice, refused: reject(code) }, conflicts);
}

const conflictCode = ({ named }: BatchItem, constraint: string): string | undefined =>
  named.refs.map((ref) => takenCode(ref.table, constraint)).find((code) => code !== undefined);

type Decided = BatchResult & { readonly statements: Statement[] };

async function decide(tx: Transaction, { items, manifest, refused }: Slice, guards: readonly GuardStatement[]): Promise<Decided> {
  const picture = await load(tx, items, guards);
  const said: Said = { events: [], enqueued: [], cancelled: [], forgotten: [] };
  const outcomes = items.map((item) => runItem(item, { picture, said, manifest, refused }));
  const statements = whatAnItemMayBreak(() => picture.flush());
  if (said.cancelled.length > 0) statements.push(lockRunning(said.cancelled));
  if (said.enqueued.length > 0) statements.push(...enqueueTasks(said.enqueued, manifest.offersTasks));
  if (said.cancelled.length > 0) statements.push(...cancelTasks(said.cancelled));
  // Last of all: the outbox takes its place in the order after every lock was got.
  if (said.events.length > 0) statements.push(outboxInsert(said.events));
  return { outcomes, statements, published: said.events.length, enqueued: said.enqueued, forgotten: said.forgotten };
}

/** What items say beside their rows. */
type Said = {
  readonly events: EventRecord[];
  readonly enqueued: NewTask[];
  readonly cancelled: string[];
  readonly forgotten: AnswerGroup[];
};

/** A row that can't be read or written as its table has it. */
class BadRow extends Error {
  override readonly name = "BadRow";
}

function whatAnItemMayBreak<T>(run: () => T): T {
  try {
    return run();
  } catch (cause) {
    throw new BadRow(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** Some item of the batch is to blame, and not the moment: apart from the others it fails alone. */
export const isFaultOfAnItem = (error: unknown): boolean => isDataError(error) || error instanceof BadRow;

async function checked(tx: Transaction, guard: GuardStatement): Promise<void> {
  const rows = await tx.query(guard);
  guard.check?.(rows);
}

async function load(tx: Transaction, items: readonly BatchItem[], guards: readonly GuardStatement[]): Promise<Picture> {
  const refs = new Map<Table<object>, Map<string, Ref<object>>>();
  const name = (ref: Ref<object>): void => {
    const ofTable = refs.get(ref.table) ?? new Map<string, Ref<object>>();
    refs.set(ref.table, ofTable.set(refName(ref), ref));
  };
  for (const item of items) {
    for (const ref of item.named.refs) name(ref);
    if (item.command !== undefined) name(answers.row(item.command.key) as unknown as Ref<object>);
  }
  const guarded = guards.map((guard) => checked(tx, guard));
  const tables = [...refs.keys()].sort((a, b) => (a.name < b.name ? -1 : 1));
  const picture = new Picture();
  const loaded = tables.map(async (table) => {
    const wanted = [...(refs.get(table)?.values() ?? [])];
    const answer = await tx.query(selectStatement(table, wanted, "wait"));
    whatAnItemMayBreak(() => picture.load(table, rowsOf(table, answer)));
  });
  await allEnded([...guarded, ...loaded]);
  return picture;
}

/** Awaits all even if one fails: nothing may still be on its way when the transaction, or its savepoint, ends. Throws the first failure. */
export async function allEnded(running: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(running)) if (result.status === "rejected") throw result.reason;
}

type Desk = Omit<Slice, "items"> & { readonly picture: Picture; readonly said: Said };

function runItem({ item, command, named }: BatchItem, { picture, said, manifest, refused }: Desk): ApplyOutcome {
  if (named.failed !== undefined) return { kind: "failed", error: named.failed.error };
  const stored = command === undefined ? undefined : picture.row(answers.row(command.key));
  if (command !== undefined && stored !== undefined) return { kind: "applied", answer: repeatedAnswer(command, stored) };
  picture.begin();
  const work = new ItemWork(item, named.refs, picture, manifest);
  try {
    const answered =
      refused ??
      (item.parts.write(work, item.input, new WriteView(item, picture.locked(named.locks)) as never) as Message | Rejection | undefined);
    // What the item says itself goes before what an index says of it.
    const answer = work.taken === undefined || isRejection(answered) ? answered : reject(work.taken);
    if (isRejection(answer) && !answer.keepsWrites) work.undo();
    if (command !== undefined) {
      if (answer === undefined) throw new Error(`${command.method.name} answered nothing`);
      work.insert(answers, storedAnswer(command, answer, item.now));
    }
    said.events.push(...work.said.events);
    said.enqueued.push(...work.said.enqueued);
    said.cancelled.push(...work.said.cancelled);
    said.forgotten.push(...work.said.forgotten);
    return { kind: "applied", answer };
  } catch (error) {
    work.undo();
    return { kind: "failed", error };
  }
}

/** An item as its `write` sees it. */
class WriteView {
  readonly #item: ApplyItem;
  readonly locked: unknown;

  constructor(item: ApplyItem, locked: unknown) {
    this.#item = item;
    this.locked = locked;
  }

  get caller() {
    return this.#item.caller;
  }

  get id() {
    return this.#item.id;
  }

  get commandId() {
    return this.#item.commandId;
  }

  get now() {
    return this.#item.now;
  }

  get prepared() {
    return this.#item.prepared;
  }

  get origin() {
    return this.#item.origin;
  }
}

/** What one item has written so far, and how to take it back. */
class ItemWork implements Tx {
  readonly said: Said = { events: [], enqueued: [], cancelled: [], forgotten: [] };
  readonly #item: ApplyItem;
  readonly #refs: readonly Ref<object>[];
  readonly #picture: Picture;
  readonly #manifest: Manifest;
  #taken: string | undefined;

  constructor(item: ApplyItem, refs: readonly Ref<object>[], picture: Picture, manifest: Manifest) {
    this.#manifest = manifest;
    this.#item = item;
    this.#refs = refs;
    this.#picture = picture;
  }

  insert<R extends object>(table: Table<R>, row: R): void {
    this.#change("insert", table, row);
  }

  ensure<R extends object>(table: Table<R>, row: R): void {
    this.#change("ensure", table, row);
  }

  update<R extends object>(table: Table<R>, row: R): void {
    if (!this.#hasLocked(table, table.keyOf(row))) throw new Error(`${table.name} ${table.keyOf(row)} wasn't named in \`lock\``);
    this.#change("update", table, row);
  }

  publish<E extends DescMessage>(event: E, data: EventDataInit<E>): void {
    const { caller, now, trace } = this.#item;
    if (!this.#manifest.publishes.has(event)) throw new Error(`${event.typeName} isn't among the events that the manifest names`);
    this.said.events.push(newEvent(event, data, { eventId: uuidv7(), nowMs: timestampMs(now), actor: callerName(caller), ...trace }));
  }

  enqueue<T extends DescMessage>(schema: T, data: MessageInitShape<T>, options: EnqueueOptions = {}): string {
    const { caller, now, trace } = this.#item;
    const declared = this.#manifest.tasks.get(schema.typeName);
    if (declared === undefined) throw new Error(`${schema.typeName} isn't among the tasks that the manifest names`);
    const task = newTask(schema, data, declared, { ...options, nowMs: timestampMs(now), actor: callerName(caller), ...trace });
    this.said.enqueued.push(task);
    return task.id;
  }

  forget(method: DescMethod, group?: string): void {
    const name = methodName(method);
    if (!this.#manifest.caches.has(method)) throw new Error(`answers of ${name} aren't cached here`);
    const groupedBy = cacheGroup(method);
    // Else nothing would be forgotten, and nobody told.
    if (groupedBy !== undefined && group === undefined)
      throw new Error(`${name}: its answers are forgotten by \`${groupedBy}\`: say which`);
    if (groupedBy === undefined && group !== undefined) throw new Error(`${name}: its answers are forgotten all together: name no group`);
    this.said.forgotten.push({ method, group: group ?? "" });
  }

  cancelTask(id: string): void {
    this.said.cancelled.push(id);
  }

  undo(): void {
    this.#picture.undo();
    for (const list of Object.values(this.said)) list.length = 0;
    this.#taken = undefined;
  }

  /** The code of the unique index that a row of this item ran into. */
  get taken(): string | undefined {
    return this.#taken;
  }

  #hasLocked<R extends object>(table: Table<R>, key: string): boolean {
    for (const ref of this.#refs) {
      if ((ref.table as unknown) !== table) continue;
      const locked = this.#picture.row(ref);
      if (locked !== undefined && table.keyOf(locked as R) === key) return true;
    }
    return false;
  }

  /** After a row ran into another, nothing that the item does will be written. */
  #change<R extends object>(how: "insert" | "ensure" | "update", table: Table<R>, row: R): void {
    if (this.#taken !== undefined) return;
    try {
      this.#picture[how](table, row);
    } catch (error) {
      if (!(error instanceof UniqueValueTaken)) throw error;
      this.#taken = error.code;
    }
  }
}
