import { ensureDatabase } from "#platform/postgres/create-database.ts";
import type { Database } from "#platform/postgres/database.ts";
import { migrate } from "#platform/postgres/migrate.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { kvMigrations } from "#platform/process/key-value-store.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { release } from "../../cli/release.ts";
import { benchLog } from "./log.ts";
import type { BenchServer } from "./server.ts";

/** The database of the key-value store; `parts` closes it. */
export async function openKvDatabase(
  server: BenchServer,
  { name, maxConnections }: { readonly name: string; readonly maxConnections: number },
  parts: AsyncDisposableStack,
): Promise<Database> {
  const log = benchLog();
  await ensureDatabase(server.connection("postgres"), name);
  await migrate({ connection: server.connection(name), sets: kvMigrations, release, log });
  const database = await openDatabase({ connection: server.connection(name), name, maxConnections, log, metrics: new Metrics() });
  parts.defer(() => database.close());
  return database;
}
