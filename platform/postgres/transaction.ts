import { strict as assert } from "node:assert";
import { type Client, DatabaseError, type QueryResultRow } from "pg";
import type { Rows, Statement, Transaction } from "#platform/postgres/database.ts";
import { isConnectionLost } from "#platform/postgres/errors.ts";
import type { Send } from "#platform/postgres/statements.ts";

/** What identifies a transaction after its connection is gone; see `resolveOutcome`. */
export type TransactionMark = { readonly xid: string; readonly epoch: string };

/** The connection was lost at COMMIT; `mark` is there if the server had told it. */
export type LostCommit = { readonly mark: TransactionMark; readonly cause: unknown };

/**
 * pg_current_xact_id assigns the id at once. The time at which statistics were last reset changes when the server recovers from
 * a crash, and in every session alike: it tells whether the server crashed since.
 */
const MARK: Statement = {
  name: "mark",
  text: "SELECT pg_current_xact_id()::text AS xid, pg_stat_get_bgwriter_stat_reset_time()::text AS epoch",
};

/** An error of the server after which the session goes on: what it said of COMMIT is final. */
const isFinalAnswer = (error: unknown): boolean => error instanceof DatabaseError && !isConnectionLost(error);

/** `answered`: the server has said what became of COMMIT, or never will. */
type State = "open" | "committing" | "answered" | "committed";

/** One attempt at a transaction, on one connection. */
export class OpenTransaction implements Transaction {
  readonly #client: Client;
  readonly #send: Send;
  readonly #resolveLost: (lost: LostCommit) => Promise<void>;
  readonly #begun: Promise<unknown>;
  readonly #mark: Promise<TransactionMark>;
  #isBegun = false;
  /** Statements that wait for BEGIN; what comes after one waits behind it. */
  #held = 0;
  #state: State = "open";

  /** `resolveLost` returns if the transaction was committed all the same, and throws otherwise. */
  constructor(client: Client, send: Send, durable: boolean, resolveLost: (lost: LostCommit) => Promise<void>) {
    this.#client = client;
    this.#send = send;
    this.#resolveLost = resolveLost;
    this.#begun = client.query(`BEGIN ISOLATION LEVEL READ COMMITTED${durable ? "" : "; SET LOCAL synchronous_commit = off"}`).then(() => {
      this.#isBegun = true;
    });
    this.#mark = send<{ xid: string; epoch: string | null }>(client, MARK).then(({ rows: [row] }) => ({
      xid: row?.xid ?? "",
      epoch: row?.epoch ?? "",
    }));
    this.#begun.catch(() => undefined);
    this.#mark.catch(() => undefined);
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
    // Were BEGIN to fail, what is sent behind it would run by itself: harmless for a read, a torn transaction for a write.
    if (this.#held > 0 || (!this.#isBegun && !/^\s*SELECT\b/i.test(statement.text))) {
      this.#held += 1;
      try {
        await this.#begun;
      } finally {
        this.#held -= 1;
      }
    }
    return this.#send<R>(this.#client, statement);
  }

  async commit(statements: readonly Statement[]): Promise<void> {
    assert(this.#state === "open", "the transaction is over");
    this.#state = "committing";
    await this.#begun;
    const mark = await this.#mark;
    const sent = this.#send.all(this.#client, statements);
    const [commit, ...results] = await Promise.allSettled([this.#client.query("COMMIT"), ...sent]);
    this.#state = "answered";
    const failure = results.find((result) => result.status === "rejected");
    if (commit.status === "fulfilled") {
      // COMMIT of a failed transaction is answered with ROLLBACK.
      if (commit.value.command !== "COMMIT")
        throw failure?.reason ?? new Error("the transaction was rolled back: a statement in it had failed");
    } else if (isFinalAnswer(commit.reason)) throw failure?.reason ?? commit.reason;
    else if (failure !== undefined && isFinalAnswer(failure.reason)) throw failure.reason;
    else await this.#resolveLost({ mark, cause: commit.reason });
    this.#state = "committed";
  }

  /** Takes everything back, behind whatever is still on its way. */
  async rollback(): Promise<void> {
    this.#state = "committing";
    try {
      await this.#client.query("ROLLBACK");
    } catch {
      // The connection is gone, and the transaction with it: the pool learns of it from the connection.
    }
    this.#state = "answered";
  }
}
