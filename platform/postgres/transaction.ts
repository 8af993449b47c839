import { strict as assert } from "node:assert";
import { type Client, DatabaseError, type QueryResultRow } from "pg";
import type { Rows, Statement, Transaction, TransactionOptions } from "#platform/postgres/database.ts";
import { endsSession, isConnectionLost } from "#platform/postgres/errors.ts";
import { type Answer, type Sendable, sendTogether } from "#platform/postgres/round-trip.ts";
import type { MakeSendable } from "#platform/postgres/statements.ts";

/** What identifies a transaction after its connection is gone; see `resolveOutcome`. */
export type TransactionMark = { readonly xid: string; readonly epoch: string };

/** The connection was lost at COMMIT. */
export type LostCommit = { readonly mark: TransactionMark; readonly cause: unknown };

const BEGIN: Statement = { name: "begin", text: "BEGIN ISOLATION LEVEL READ COMMITTED" };
const QUICK: Statement = { name: "quick", text: "SET LOCAL synchronous_commit = off" };
const COMMIT: Statement = { name: "commit", text: "COMMIT" };
const ROLLBACK: Statement = { text: "ROLLBACK" };

/**
 * pg_current_xact_id assigns the id at once. The time at which statistics were last reset changes when the server recovers from
 * a crash, and in every session alike: it tells whether the server crashed since.
 */
const MARK: Statement = {
  name: "mark",
  text: "SELECT pg_current_xact_id()::text AS xid, pg_stat_get_bgwriter_stat_reset_time()::text AS epoch",
};

/** BEGIN, with what holds for the whole transaction; its mark comes last. */
function firstOf({ durable = true, lockPatienceMs }: TransactionOptions): Statement[] {
  const begin = durable ? [BEGIN] : [BEGIN, QUICK];
  if (lockPatienceMs === undefined) return [...begin, MARK];
  // With the mark, for a statement of its own would cost as much as the mark does.
  return [...begin, { name: "mark", text: `${MARK.text}, set_config('lock_timeout', $1, true)`, values: [lockPatienceMs] }];
}

/** `over`: the server has said that nothing was committed, or never will say what was. */
type State = "open" | "committing" | "over" | "committed";

type Waiting = { readonly statement: Sendable; readonly resolve: (rows: Rows<never>) => void; readonly reject: (error: unknown) => void };

/** One attempt at a transaction, on one connection. */
export class OpenTransaction implements Transaction {
  readonly #client: Client;
  readonly #sendable: MakeSendable;
  readonly #first: readonly Statement[];
  readonly #resolveLost: (lost: LostCommit) => Promise<void>;
  #mark: TransactionMark | undefined;
  /** Statements of this turn of the event loop, and those that were sent while a round trip was on its way. */
  #waiting: Waiting[] = [];
  #sending: Promise<void> | undefined;
  #committing: Promise<void> | undefined;
  #state: State = "open";

  /** `resolveLost` returns if the transaction was committed all the same, and throws otherwise. */
  constructor(client: Client, sendable: MakeSendable, options: TransactionOptions, resolveLost: (lost: LostCommit) => Promise<void>) {
    this.#client = client;
    this.#sendable = sendable;
    this.#first = firstOf(options);
    this.#resolveLost = resolveLost;
  }

  get state(): State {
    return this.#state;
  }

  /** The session is outside any transaction, as far as it has answered. */
  get isAtRest(): boolean {
    return this.#client.getTransactionStatus() === "I";
  }

  async query<R extends QueryResultRow = QueryResultRow>(statement: Statement): Promise<Rows<R>> {
    assert(this.#state === "open", "the transaction is over");
    const sendable = this.#sendable(statement);
    return new Promise<Rows<R>>((resolve, reject) => {
      this.#waiting.push({ statement: sendable, resolve: resolve as Waiting["resolve"], reject });
      this.#sending ??= Promise.resolve().then(() => this.#sendWaiting());
    });
  }

  commit(statements: readonly Statement[]): Promise<void> {
    const committing = this.#commit(statements);
    // Whoever doesn't wait for it is told by `finish`.
    committing.catch(() => undefined);
    this.#committing ??= committing;
    return committing;
  }

  /** Commits, unless that was done; waits for a COMMIT that nobody has waited for, and throws what it throws. */
  finish(): Promise<void> {
    return this.#committing ?? this.commit([]);
  }

  async #commit(statements: readonly Statement[]): Promise<void> {
    assert(this.#state === "open", "the transaction is over");
    this.#state = "committing";
    const last = statements.map(this.#sendable);
    await this.#sending;
    // Its mark must be known before it can be in doubt.
    const mark = this.#mark ?? (await this.#begin([])).mark;
    const answers = await sendTogether(this.#client, [...last, this.#sendable(COMMIT)]);
    const failedAt = answers.findIndex((answer) => "error" in answer);
    const commit = answers[last.length] as Answer;
    if (!("error" in commit)) {
      // COMMIT of a failed transaction is answered with ROLLBACK.
      this.#state = commit.tag === "COMMIT" ? "committed" : "over";
      if (this.#state === "over") throw new Error("the transaction was rolled back: a statement in it had failed");
      return;
    }
    const { error } = commit;
    // An end of the session says nothing of what came before it: a pooler tells of it in the server's stead, and knows no more.
    const isSaid = error instanceof DatabaseError && !endsSession(error);
    // What the server says of a statement before COMMIT tells that it skipped COMMIT; ROLLBACK is still to come.
    if (isSaid && failedAt < last.length) throw error;
    this.#state = "over";
    if (isSaid && !isConnectionLost(error)) throw error;
    await this.#resolveLost({ mark, cause: error });
    this.#state = "committed";
  }

  /** Takes everything back, behind whatever is still on its way. */
  async rollback(): Promise<void> {
    await this.#committing?.catch(() => undefined);
    if (this.#state === "committed" || this.#state === "over") return;
    this.#state = "over";
    await this.#sending;
    // Where the connection is gone, the transaction is as well, and the pool learns of it from the connection.
    await sendTogether(this.#client, [this.#sendable(ROLLBACK)]);
  }

  /** Round trips one after the other, each with all that waits. */
  async #sendWaiting(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      try {
        const statements = group.map(({ statement }) => statement);
        const answers = this.#mark === undefined ? (await this.#begin(statements)).answers : await sendTogether(this.#client, statements);
        for (const [i, { resolve, reject }] of group.entries()) {
          const answer = answers[i] as Answer;
          if ("error" in answer) reject(answer.error);
          else resolve(answer as unknown as Rows<never>);
        }
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
    }
    this.#sending = undefined;
  }

  /** BEGIN and the mark go out with the first statements: were BEGIN to fail, the server would skip them. */
  async #begin(statements: readonly Sendable[]): Promise<{ mark: TransactionMark; answers: readonly Answer[] }> {
    const first = this.#first.map(this.#sendable);
    const answers = await sendTogether(this.#client, [...first, ...statements]);
    const marked = answers[first.length - 1] as Answer;
    if ("error" in marked) throw marked.error;
    const [row] = marked.rows as { xid: string; epoch: string | null }[];
    this.#mark = { xid: row?.xid ?? "", epoch: row?.epoch ?? "" };
    return { mark: this.#mark, answers: answers.slice(first.length) };
  }
}
