import { type DescMethodUnary, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { type Caller, callerName } from "#platform/access/caller.ts";
import { methodName } from "#platform/contract/method-options.ts";
import { derivedUuid, hashUuid } from "#platform/ids.ts";
import type { Database, Sql } from "#platform/postgres/database.ts";
import { isRejection, type Rejection, reject } from "#platform/rejection.ts";
import { bytes, optional, text, timestamp, uuid } from "#platform/writes/columns.ts";
import { table } from "#platform/writes/table.ts";
import { rowsOf, selectStatement } from "#platform/writes/table-statements.ts";

/** How long a client's key is kept: a repeat within it gets the first answer. */
const KEPT_MS = 7 * 24 * 60 * 60 * 1000;

/** A client's command: (caller, method, key), and the hash of what it asks for. */
export type Command = { readonly key: string; readonly content: string; readonly method: DescMethodUnary };

export const commandOf = (method: DescMethodUnary, caller: Caller, key: string, request: Message): Command => ({
  key: derivedUuid(callerName(caller), methodName(method), key),
  content: hashUuid(toBinary(method.input, request)),
  method,
});

type StoredAnswer = {
  readonly key: string;
  readonly content: string;
  readonly answer: Uint8Array | undefined;
  readonly rejection: string | undefined;
  readonly detail: string | undefined;
  readonly createdAt: Timestamp;
};

export const answers = table<StoredAnswer>(
  "idempotency",
  { key: uuid, content: uuid, answer: optional(bytes), rejection: optional(text), detail: optional(text), createdAt: timestamp },
  { key: "key", immutable: true },
);

/** What is stored of a command: final, so successes and rejections alike. */
export const storedAnswer = (command: Command, outcome: Message | Rejection, now: Timestamp): StoredAnswer => ({
  key: command.key,
  content: command.content,
  answer: isRejection(outcome) ? undefined : toBinary(command.method.output, outcome),
  rejection: isRejection(outcome) ? outcome.code : undefined,
  detail: isRejection(outcome) ? outcome.detail : undefined,
  createdAt: now,
});

/** The answer to a repeat: the first one, as it was; or no, where the key stands for another request. */
export function repeatedAnswer(command: Command, stored: StoredAnswer): Message | Rejection {
  if (stored.content !== command.content) return reject("idempotency_key_reused", "This Idempotency-Key stands for another request.");
  if (stored.rejection !== undefined) return reject(stored.rejection, stored.detail);
  return fromBinary(command.method.output, stored.answer ?? new Uint8Array());
}

/** The stored answer of a command, if it was decided. */
export async function findAnswer(database: Database, command: Command): Promise<StoredAnswer | undefined> {
  const ref = answers.row(command.key);
  return rowsOf(answers, await database.query(selectStatement(answers, [ref], "none")))[0];
}

/** Deletes at most `limit` answers that are older than KEPT_MS; the number deleted. */
export async function pruneAnswers(sql: Sql, nowMs: number, limit: number): Promise<number> {
  const { rowCount } = await sql.query({
    text: "DELETE FROM idempotency WHERE ctid = ANY(ARRAY(SELECT ctid FROM idempotency WHERE created_at < to_timestamp($1::float8 / 1000) LIMIT $2))",
    values: [nowMs - KEPT_MS, limit],
  });
  return rowCount;
}
