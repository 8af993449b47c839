import type { Client } from "pg";
import type { PlatformSettings } from "#platform/config/platform-settings.ts";
import { ConnectionLimit, PROCESS_CONNECTIONS_MAX } from "#platform/postgres/connection-limit.ts";
import { ensureDatabase } from "#platform/postgres/create-database.ts";
import type { Database } from "#platform/postgres/database.ts";
import { startEmbeddedPostgres } from "#platform/postgres/embedded.ts";
import { type MigrationSet, migrate } from "#platform/postgres/migrate.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { openSession } from "#platform/postgres/session.ts";
import { type DatabaseServers, embeddedServer, outsideServers, ownServers } from "#platform/process/database-server.ts";
import { assertSameDatabase } from "#platform/process/same-database.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/** The PostgreSQL of a process: the embedded one, or another by URL. */
export type Databases = {
  /** Opens a service's database, which is made and migrated where need be. */
  open(service: string, sets: readonly MigrationSet[]): Promise<Database>;
  /** Throws, naming the setting, where the server can't be reached. */
  reach(): Promise<void>;
  /** A session of one's own, around a pooler. */
  connectDirectly(): Promise<Client>;
  /** How the server is reached, for a person. */
  readonly description: string;
  /** Stops the embedded server; an outside one stays. */
  stop(): Promise<void>;
};

/** The database of a service, in a server that may hold others' as well. */
export const databaseName = (service: string): string => `polis_${service}`;

export async function openDatabases(options: {
  readonly settings: PlatformSettings;
  readonly release: string;
  readonly log: Log;
  readonly metrics: Metrics;
  /** The embedded server's folder was taken over by another process. */
  readonly onLost: (error: Error) => void;
}): Promise<Databases> {
  const { settings, release, log, metrics } = options;
  const shared = outsideServers(settings) ?? (await embedded(settings, log, options.onLost));
  const limit = new ConnectionLimit(PROCESS_CONNECTIONS_MAX);
  const connectDirectly = (): Promise<Client> => openSession(shared.direct.connection("postgres"));
  return {
    description: shared.pooled.description,
    async open(service, sets) {
      const name = databaseName(service);
      const own = ownServers(settings, service);
      const { pooled, direct, settings: saidBy } = own ?? shared;
      if (own === undefined) await direct.reach(() => ensureDatabase(direct.connection("postgres"), name));
      // Migrations keep their locks in a session, so they go around a pooler.
      await direct.reach(() => migrate({ connection: direct.connection(name), sets, release, log }));
      const { preparesStatements } = pooled;
      const database = await pooled.reach(() =>
        openDatabase({ connection: pooled.connection(name), name, limit, preparesStatements, log, metrics }),
      );
      try {
        if (saidBy !== undefined) await assertSameDatabase(database, direct.connection(name), saidBy);
        return database;
      } catch (error) {
        await database.close();
        throw error;
      }
    },
    reach: () => shared.direct.reach(async () => (await connectDirectly()).end()),
    connectDirectly,
    stop: shared.pooled.stop,
  };
}

async function embedded({ dataFolder: folder }: PlatformSettings, log: Log, onLost: (error: Error) => void): Promise<DatabaseServers> {
  const { connection, stop } = await startEmbeddedPostgres({ folder, log, onLost });
  const server = embeddedServer({ connection, stop, folder });
  return { pooled: server, direct: server, settings: undefined };
}
