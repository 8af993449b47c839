import type { DescMessage, DescMethod, DescMethodUnary, Message, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { GenMessage } from "@bufbuild/protobuf/codegenv2";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { Caller } from "#platform/access/caller.ts";
import type { Sql, Transaction } from "#platform/postgres/database.ts";
import type { Rejection } from "#platform/rejection.ts";
import type { Equipment } from "#platform/resource.ts";
import type { Peers } from "#platform/rpc/client.ts";
import type { Origin } from "#platform/rpc/origin.ts";
import type { EnqueueOptions } from "#platform/tasks/task-types.ts";
import type { Ref, Table } from "#platform/writes/table.ts";

/**
 * What changes state (an operation, a consumer's handler) has three parts:
 *   prepare  asynchronous, outside any transaction: calls peers;
 *   lock     names the rows that decide, and where a unique value is claimed, its holder;
 *   write    synchronous: sees the locked rows, and says what is to be written.
 * It is written for one item. The platform runs many in one transaction (batch.ts).
 */
export type WriteParts<Input, Output, L extends Locks, Prepared> = {
  readonly prepare?: (input: Input, context: PrepareContext) => Promise<Prepared>;
  readonly lock?: (input: Input, context: LockContext<Prepared>) => L;
  readonly write: (tx: Tx, input: Input, context: WriteContext<L, Prepared>) => Output;
};

/** Rows to lock: one, several, or several by name. */
export type Locks = SomeRef | readonly SomeRef[] | { readonly [name: string]: SomeRef | readonly SomeRef[] };
// biome-ignore lint/suspicious/noExplicitAny: a ref of any table
type SomeRef = Ref<any> | undefined;

/** The locked rows, in the shape in which they were named; undefined where there is none. */
export type Locked<L> =
  L extends Ref<infer R>
    ? R | undefined
    : L extends undefined
      ? undefined
      : L extends readonly (infer E)[]
        ? readonly Locked<E>[]
        : { readonly [K in keyof L]: Locked<L[K]> };

export type ItemContext = {
  readonly caller: Caller;
  /** A fresh UUIDv7, for the row that this item makes. */
  readonly id: string;
  /** The same for every repeat of this command (caller, method, key), event or task: what ids elsewhere are derived from. */
  readonly commandId: string;
  readonly now: Timestamp;
  /** Undefined for events and tasks. */
  readonly origin?: Origin | undefined;
};

export type PrepareContext = ItemContext &
  Equipment & {
    /** Reads of the service's own database, outside any transaction. */
    readonly sql: Sql;
    readonly peer: Peers;
    readonly signal: AbortSignal;
  };

export type LockContext<Prepared> = ItemContext & { readonly prepared: Prepared };

export type WriteContext<L, Prepared> = LockContext<Prepared> & { readonly locked: Locked<L> };

/** Collects what is to be written; nothing is sent before every item of the batch has run. */
export type Tx = {
  insert<R extends object>(table: Table<R>, row: R): void;
  /** Inserts a row unless one with its key is there; which of the two is never told. */
  ensure<R extends object>(table: Table<R>, row: R): void;
  /** Replaces a row that this item has locked. */
  update<R extends object>(table: Table<R>, row: R): void;
  /** Publishes an event with these data; the platform fills its id, type and time. */
  publish<E extends DescMessage>(event: E, data: EventDataInit<E>): void;
  /** Has one of the service's tasks done after the commit. Returns its id, which a key decides (`taskId`). */
  enqueue<T extends DescMessage>(task: T, data: MessageInitShape<T>, options?: EnqueueOptions): string;
  /**
   * Has cached answers of one of the service's methods forgotten after the commit, before this one's answer. Where the contract names
   * a `group`: the answers to requests that have this value in that field, and it must be given. Else all of the method's, and none may
   * be given. Throws otherwise.
   */
  forget(method: DescMethod, group?: string): void;
  /** Ends the task of this id unless it has ended; what it would still write is refused, though it may be running. */
  cancelTask(id: string): void;
};

/** The data of an event, by the schema of its message: the type of its field `data`. */
export type EventData<E extends DescMessage> = MessageShape<E> extends { data?: infer D } ? Extract<D, Message> : never;
export type EventDataInit<E extends DescMessage> = MessageInitShape<GenMessage<EventData<E>>>;

/** A method that changes state. */
export type Operation<M extends DescMethodUnary = DescMethodUnary> = {
  readonly kind: "operation";
  readonly method: M;
  // biome-ignore lint/suspicious/noExplicitAny: what is inside is known to the definition alone
  readonly parts: WriteParts<any, any, any, any>;
};

/** A method that needs SQL of its own: a transaction to itself. */
export type RunOperation<M extends DescMethodUnary = DescMethodUnary> = {
  readonly kind: "run";
  readonly method: M;
  // biome-ignore lint/suspicious/noExplicitAny: as above
  readonly run: (sql: Transaction, input: any, context: ItemContext) => Promise<any>;
};

/** Defines a method that changes state. */
export const operation = <I extends DescMessage, O extends DescMessage, L extends Locks = undefined, Prepared = undefined>(
  method: DescMethodUnary<I, O>,
  parts: WriteParts<MessageShape<I>, MessageShape<O> | Rejection, L, Prepared>,
): Operation<DescMethodUnary<I, O>> => ({ kind: "operation", method, parts });

/**
 * Defines a method that writes by SQL of its own, in a transaction to itself: for what the batch can't say (a bulk expiry, an
 * archive). It may be run again from its start; it publishes nothing; calls to peers throw while it runs.
 */
export const runOperation = <I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O>,
  run: (sql: Transaction, input: MessageShape<I>, context: ItemContext) => Promise<MessageShape<O> | Rejection>,
): RunOperation<DescMethodUnary<I, O>> => ({ kind: "run", method, run });
