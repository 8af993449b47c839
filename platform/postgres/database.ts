import type { QueryResultRow } from "pg";

/** A statement of SQL. With a `name` it is prepared once a connection, where the server's pooler allows it. */
export type Statement = {
  readonly text: string;
  /** Strings, numbers, bigints, booleans, bytes, Dates, arrays of these; other objects go as JSON. */
  readonly values?: readonly unknown[];
  readonly name?: string;
};

/** bigint is a bigint, timestamptz a Protobuf Timestamp, bytea a Buffer; date, timestamp, numeric and uuid are text. */
export type Rows<R> = { readonly rows: R[]; readonly rowCount: number };

/** Sends statements. */
export type Sql = {
  query<R extends QueryResultRow = QueryResultRow>(statement: Statement): Promise<Rows<R>>;
};

/**
 * An open transaction. Statements that are sent without waiting for each other share a round trip and run in order; BEGIN goes
 * out with the first of them. Where one fails, those behind it in its round trip fail alike.
 */
export type Transaction = Sql & {
  /**
   * Sends the last statements and COMMIT in one round trip; nothing may follow. If one fails, nothing is committed, and the
   * first failure is thrown. A transaction whose function returns without it is committed then. Gives no rows: when the
   * connection is lost at COMMIT, that it was committed can be found out, what the statements answered can't.
   */
  commit(statements: readonly Statement[]): Promise<void>;
};

export type TransactionOptions = { readonly durable?: boolean; readonly lockPatienceMs?: number };

/** One database with its pool of connections. */
export type Database = Sql & {
  readonly name: string;
  /** The running server, as it was when the database was opened: two databases with the same one share a write-ahead log. */
  readonly serverId: string;
  /**
   * Sends statements in one round trip, which the server makes one transaction of: for statements none of which waits for
   * another's answer. They are not tried again.
   */
  queryAll(statements: readonly Statement[]): Promise<Rows<QueryResultRow>[]>;
  /**
   * Runs `run` in a transaction (READ COMMITTED), again from its start after a serialisation failure or a deadlock. When the
   * connection is lost at COMMIT, the server is asked what became of the transaction (pg_xact_status): it either returns, as
   * if nothing had happened, or throws what `isConnectionLost` knows, and then nothing was written. Only where the server can't
   * be asked within a bound, or can't tell, is OutcomeUnknown thrown.
   * `durable: false` doesn't wait for the disk; only for what can be repeated, see DESIGN of the outbox. With `lockPatienceMs`
   * its statements wait no longer than that for a lock, and then fail with what `isGivenUpWaiting` knows.
   * `run` must not use the database itself: it would wait for a second connection while it holds one.
   */
  transaction<T>(run: (tx: Transaction) => Promise<T>, options?: TransactionOptions): Promise<T>;
  /** Waits for what runs, then closes every connection. */
  close(): Promise<void>;
};
