import { setTimeout as sleep } from "node:timers/promises";
import type { ClientConfig, QueryResultRow } from "pg";
import { wasCommitted } from "#platform/postgres/commit-outcome.ts";
import { type ConnectionLimit, processConnectionLimit } from "#platform/postgres/connection-limit.ts";
import type { Database, Rows, Statement, Transaction, TransactionOptions } from "#platform/postgres/database.ts";
import { isLentSession, isRetryable, sqlState } from "#platform/postgres/errors.ts";
import { Pool } from "#platform/postgres/pool.ts";
import { sendTogether } from "#platform/postgres/round-trip.ts";
import { sendables } from "#platform/postgres/statements.ts";
import { type LostCommit, OpenTransaction } from "#platform/postgres/transaction.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

const TRIES_MAX = 10;
const RETRY_PAUSE_MIN_MS = 4;
const RETRY_PAUSE_MAX_MS = 500;
const DEFAULT_CONNECTIONS_MAX = 4;

export type DatabaseOptions = {
  readonly connection: ClientConfig;
  /** For logs and metrics: the service's name. */
  readonly name: string;
  readonly maxConnections?: number;
  /** What bounds the connections of all databases together; the process's own unless said. */
  readonly limit?: ConnectionLimit;
  /** False behind a pooler that gives each transaction another session and knows no prepared statements. */
  readonly preparesStatements?: boolean;
  readonly log: Log;
  readonly metrics: Metrics;
};

/**
 * Opens a database that is there and migrated (`ensureDatabase`, `migrate`).
 * @throws what `isConnectionLost` knows when the server isn't reached.
 */
export async function openDatabase(options: DatabaseOptions): Promise<Database> {
  const { name, log } = options;
  let isPrepared = options.preparesStatements ?? true;
  const sendable = sendables(() => isPrepared);
  /** True where it makes sense to try again: nothing was written, and nothing is prepared from now on. */
  const isOfPooler = (error: unknown): boolean => {
    if (!isLentSession(error)) return false;
    if (isPrepared)
      log.warn(
        { err: error, database: name },
        "a pooler lends our sessions to others: statements aren't prepared any more; POSTGRES_PREPARE=off or a POSTGRES_DIRECT_URL says so from the start",
      );
    isPrepared = false;
    return true;
  };
  const pool = new Pool({
    connection: options.connection,
    name,
    maxConnections: options.maxConnections ?? DEFAULT_CONNECTIONS_MAX,
    limit: options.limit ?? processConnectionLimit,
    log,
    metrics: options.metrics,
  });

  async function queryAll(statements: readonly Statement[]): Promise<Rows<QueryResultRow>[]> {
    const wasPrepared = isPrepared;
    const sent = statements.map(sendable);
    const client = await pool.acquire();
    try {
      const answers = await sendTogether(client, sent);
      return answers.map((answer) => {
        if ("error" in answer) throw answer.error;
        return answer;
      });
    } catch (error) {
      if (!isOfPooler(error) || !wasPrepared) throw error;
    } finally {
      pool.release(client, client.getTransactionStatus() === "I");
    }
    return queryAll(statements);
  }

  async function query<R extends QueryResultRow = QueryResultRow>(statement: Statement): Promise<Rows<R>> {
    const [rows] = await queryAll([statement]);
    return rows as Rows<R>;
  }

  async function attempt<T>(run: (tx: Transaction) => Promise<T>, options: TransactionOptions): Promise<Attempt<T>> {
    const client = await pool.acquire();
    let isHeld = true;
    const resolveLost = async ({ mark, cause }: LostCommit): Promise<void> => {
      // Given up first: who holds a connection never waits for another.
      isHeld = false;
      pool.release(client, false);
      log.warn({ err: cause, database: name, xid: mark.xid }, "connection lost at COMMIT; asking what became of the transaction");
      if (!(await wasCommitted(mark, query))) throw cause;
    };
    const tx = new OpenTransaction(client, sendable, options, resolveLost);
    try {
      const value = await run(tx);
      await tx.finish();
      if (tx.state !== "committed") throw new Error("the transaction's COMMIT failed");
      return { kind: "committed", value };
    } catch (error) {
      await tx.rollback();
      return { kind: "failed", error, mayRetry: tx.state !== "committed" && (isRetryable(error) || isOfPooler(error)) };
    } finally {
      if (isHeld) pool.release(client, tx.isAtRest);
    }
  }

  async function transaction<T>(run: (tx: Transaction) => Promise<T>, options: TransactionOptions = {}): Promise<T> {
    for (let tries = 1; ; tries++) {
      const outcome = await attempt(run, options);
      if (outcome.kind === "committed") return outcome.value;
      if (!outcome.mayRetry || tries === TRIES_MAX) throw outcome.error;
      await sleep(Math.random() * Math.min(RETRY_PAUSE_MIN_MS * 2 ** tries, RETRY_PAUSE_MAX_MS));
    }
  }

  try {
    return { name, serverId: await serverIdOf(query, name), query, queryAll, transaction, close: () => pool.close() };
  } catch (error) {
    await pool.close();
    throw error;
  }
}

type Attempt<T> =
  | { readonly kind: "committed"; readonly value: T }
  | { readonly kind: "failed"; readonly error: unknown; readonly mayRetry: boolean };

/**
 * The system identifier alone isn't enough: a promoted standby and a restored copy have that of their original. When a server
 * started sets it apart from its copies. One that starts again between two openings is taken for two, which costs waiting for
 * the disk and loses nothing. A server that doesn't tell (a hosted one may not) shares its log with nobody, as far as we know.
 */
async function serverIdOf(query: Database["query"], name: string): Promise<string> {
  try {
    const { rows } = await query<{ id: string }>({
      text: "SELECT system_identifier || ' ' || extract(epoch FROM pg_postmaster_start_time()) AS id FROM pg_control_system()",
    });
    return rows[0]?.id ?? `unknown ${name}`;
  } catch (error) {
    if (sqlState(error) === "42501") return `unknown ${name}`;
    throw error;
  }
}
