import type { ClientConfig } from "pg";
import type { PlatformSettings } from "#platform/config/platform-settings.ts";
import type { Database } from "#platform/postgres/database.ts";
import { attachEmbeddedPostgres, startEmbeddedPostgres } from "#platform/postgres/embedded.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { openSession } from "#platform/postgres/session.ts";
import { type DatabaseServer, embeddedServer, outsideServers, ownServers } from "#platform/process/database-server.ts";
import { databaseName } from "#platform/process/databases.ts";
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
  const server = (ownServers(settings, service) ?? outsideServers(settings))?.pooled ?? (await embedded(settings.dataFolder, log));
  try {
    const connection = server.connection(name);
    const { preparesStatements } = server;
    const metrics = new Metrics();
    const database = await server.reach(() => openDatabase({ connection, name, maxConnections: 1, preparesStatements, log, metrics }));
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

async function embedded(folder: string, log: Log): Promise<DatabaseServer> {
  const { connection } = await attachEmbeddedPostgres(folder);
  if (await answers(connection("postgres"))) return embeddedServer({ connection, folder, stop: async () => {} });
  return embeddedServer({ ...(await startEmbeddedPostgres({ folder, log })), folder });
}

async function answers(connection: ClientConfig): Promise<boolean> {
  try {
    const session = await openSession(connection);
    await session.end().catch(() => undefined);
    return true;
  } catch {
    return false;
  }
}
