import type { QueryResultRow } from "pg";

/** A statement of SQL. With a `name` it is prepared once a connection, where the server's pooler allows it. */
export type Statement = {
  readonly text: string;
  readonly values?: readonly unknown[];
  readonly name?: string;
};

export type Rows<R> = { readonly rows: R[]; readonly rowCount: number };

/** Sends statements. Statements that are sent without waiting for each other share a round trip and run in order. */
export type Sql = {
  query<R extends QueryResultRow = QueryResultRow>(statement: Statement): Promise<Rows<R>>;
};

/** An open transaction. */
export type Transaction = Sql & {
  /**
   * Sends the last statements and COMMIT in one round trip; nothing may follow. A transaction whose function returns
   * without it is committed then.
   */
  commit(statements: readonly Statement[]): Promise<Rows<QueryResultRow>[]>;
};

/** One database with its pool of connections. */
export type Database = Sql & {
  readonly name: string;
  /** The server's system identifier: two databases with the same one share a write-ahead log. */
  readonly systemId: string;
  /**
   * Runs `run` in a transaction (READ COMMITTED), again from its start after a serialisation failure or a deadlock. When the
   * connection is lost at COMMIT, the server is asked what became of the transaction (pg_xact_status): it either returns, as
   * if nothing had happened, or throws what `isConnectionLost` knows, and then nothing was written.
   * `durable: false` doesn't wait for the disk; only for what can be repeated, see DESIGN of the outbox.
   */
  transaction<T>(run: (tx: Transaction) => Promise<T>, options?: { readonly durable?: boolean }): Promise<T>;
  /** Waits for what runs, then closes every connection. */
  close(): Promise<void>;
};
