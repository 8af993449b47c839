import { type DatabaseConnection, type Driver, Kysely, PostgresAdapter, PostgresIntrospector, PostgresQueryCompiler } from "kysely";
import type { Database } from "#platform/postgres/database.ts";

/**
 * Kysely for reads. It has no transactions: what changes state goes through the platform's writes.
 * @example
 * const rows = await kyselyOf<Tables>(database).selectFrom("orders").selectAll().where("user_id", "=", userId).execute();
 */
export function kyselyOf<DB>(database: Database): Kysely<DB> {
  const connection: DatabaseConnection = {
    executeQuery: async <R>({ sql, parameters }: { sql: string; parameters: readonly unknown[] }) => ({
      rows: (await database.query({ text: sql, values: parameters })).rows as R[],
    }),
    streamQuery: () => {
      throw new Error("this Kysely doesn't stream; read in pages");
    },
  };
  const refuse = async (): Promise<never> => {
    throw new Error("this Kysely only reads; transactions are the platform's");
  };
  const driver: Driver = {
    init: async () => undefined,
    acquireConnection: async () => connection,
    beginTransaction: refuse,
    commitTransaction: refuse,
    rollbackTransaction: refuse,
    releaseConnection: async () => undefined,
    destroy: async () => undefined,
  };
  return new Kysely<DB>({
    dialect: {
      createAdapter: () => new PostgresAdapter(),
      createDriver: () => driver,
      createIntrospector: (db) => new PostgresIntrospector(db),
      createQueryCompiler: () => new PostgresQueryCompiler(),
    },
  });
}
