import type { DescMessage, DescMethodServerStreaming, DescMethodUnary, Message, MessageShape } from "@bufbuild/protobuf";
import type { Caller } from "#platform/access/caller.ts";
import type { Sql } from "#platform/postgres/database.ts";
import type { Rejection } from "#platform/rejection.ts";
import type { Equipment } from "#platform/resource.ts";
import type { Peers } from "#platform/rpc/client.ts";
import type { Origin } from "#platform/rpc/origin.ts";
import type { Ref } from "#platform/writes/table.ts";
import { rowsOf, selectStatement } from "#platform/writes/table-statements.ts";

export type ReadContext = Equipment & {
  readonly sql: Sql;
  readonly caller: Caller;
  readonly origin?: Origin | undefined;
  readonly peer: Peers;
  readonly signal: AbortSignal;
};

/** A method that reads. Without an answer there is nothing there: `not_found`. */
export type Query<M extends DescMethodUnary = DescMethodUnary> = {
  readonly kind: "query";
  readonly method: M;
  // biome-ignore lint/suspicious/noExplicitAny: what is inside is known to the definition alone
  readonly read: (request: any, context: ReadContext) => Promise<Message | Rejection | undefined>;
};

/** Defines a method that reads. */
export const query = <I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O>,
  read: (request: MessageShape<I>, context: ReadContext) => Promise<MessageShape<O> | Rejection | undefined>,
): Query<DescMethodUnary<I, O>> => ({ kind: "query", method, read });

/** A method that answers with many messages, one after another. */
export type StreamedQuery<M extends DescMethodServerStreaming = DescMethodServerStreaming> = {
  readonly kind: "stream";
  readonly method: M;
  // biome-ignore lint/suspicious/noExplicitAny: as above
  readonly read: (request: any, context: ReadContext) => AsyncIterable<Message | Rejection>;
};

/**
 * Defines a method that answers with many messages. It may wait between two of them for as long as it likes, and is to end when
 * `signal` fires; a rejection that it yields ends it.
 */
export const streamedQuery = <I extends DescMessage, O extends DescMessage>(
  method: DescMethodServerStreaming<I, O>,
  read: (request: MessageShape<I>, context: ReadContext) => AsyncIterable<MessageShape<O> | Rejection>,
): StreamedQuery<DescMethodServerStreaming<I, O>> => ({ kind: "stream", method, read });

/** The row that `ref` names, as it is now. */
export async function find<R extends object>(sql: Sql, ref: Ref<R>): Promise<R | undefined> {
  return rowsOf(ref.table, await sql.query(selectStatement(ref.table, [ref], "none")))[0];
}
