import { Client, type ClientConfig } from "pg";
import type { PlatformSettings } from "#platform/config/platform-settings.ts";
import type { Database } from "#platform/postgres/database.ts";
import { attachEmbeddedPostgres, startEmbeddedPostgres } from "#platform/postgres/embedded.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { databaseName, outside } from "#platform/process/databases.ts";
import type { Log } from "#platform/telemetry/log.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

/**
 * Opens a service's database as it lies, beside the processes that use it; nothing is made and nothing migrated. An embedded
 * server is reached where it runs, and otherwise started until `close`. Throws where the folder holds no database at all, and the
 * error 3D000 where this one isn't there.
 */
export async function reachDatabase(
  service: string,
  { settings, log }: { readonly settings: PlatformSettings; readonly log: Log },
): Promise<{ readonly database: Database; close(): Promise<void> }> {
  const name = databaseName(service);
  const own = settings.postgresUrlOf[service];
  const server =
    own !== undefined || settings.postgresUrl !== undefined ? outside(own ?? settings.postgresUrl ?? "") : await embedded(settings, log);
  try {
    const connection = own === undefined ? server.connection(name) : { connectionString: own };
    const database = await openDatabase({ connection, name, maxConnections: 1, log, metrics: new Metrics() });
    const close = async (): Promise<void> => {
      await database.close();
      await server.stop();
    };
    return { database, close };
  } catch (error) {
    await server.stop();
    throw error;
  }
}

async function embedded(settings: PlatformSettings, log: Log) {
  const { connection } = await attachEmbeddedPostgres(settings.dataFolder);
  if (await answers(connection("postgres"))) return { connection, stop: async () => {} };
  return startEmbeddedPostgres({ folder: settings.dataFolder, log });
}

async function answers(connection: ClientConfig): Promise<boolean> {
  const client = new Client(connection);
  try {
    await client.connect();
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}
