import { Client, type ClientConfig } from "pg";
import type { PlatformSettings } from "#platform/config/platform-settings.ts";
import { ConnectionLimit, PROCESS_CONNECTIONS_MAX } from "#platform/postgres/connection-limit.ts";
import { ensureDatabase } from "#platform/postgres/create-database.ts";
import type { Database } from "#platform/postgres/database.ts";
import { startEmbeddedPostgres } from "#platform/postgres/embedded.ts";
import { type MigrationSet, migrate } from "#platform/postgres/migrate.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/** The PostgreSQL of a process: the embedded one, or another by URL. */
export type Databases = {
  /** Opens a service's database, which is made and migrated where need be. */
  open(service: string, sets: readonly MigrationSet[]): Promise<Database>;
  /** A session of one's own, around a pooler. */
  connectDirectly(): Promise<Client>;
  /** How the server is reached, for a person. */
  readonly description: string;
  /** Stops the embedded server; an outside one stays. */
  stop(): Promise<void>;
};

/** The database of a service, in a server that may hold others' as well. */
export const databaseName = (service: string): string => `polis_${service}`;

type Server = { readonly connection: (database: string) => ClientConfig; readonly description: string; readonly stop: () => Promise<void> };

export async function openDatabases(options: {
  readonly settings: PlatformSettings;
  readonly release: string;
  readonly log: Log;
  readonly metrics: Metrics;
  /** The embedded server's folder was taken over by another process. */
  readonly onLost: (error: Error) => void;
}): Promise<Databases> {
  const { settings, release, log, metrics } = options;
  const server = settings.postgresUrl === undefined ? await embedded(settings, log, options.onLost) : outside(settings.postgresUrl);
  const direct = settings.postgresDirectUrl === undefined ? server : outside(settings.postgresDirectUrl);
  const limit = new ConnectionLimit(PROCESS_CONNECTIONS_MAX);
  return {
    description: server.description,
    async open(service, sets) {
      const name = databaseName(service);
      const own = settings.postgresUrlOf[service];
      if (own === undefined) await ensureDatabase(direct.connection("postgres"), name);
      // Migrations keep their locks in a session, so they go around a pooler.
      await migrate({ connection: own === undefined ? direct.connection(name) : { connectionString: own }, sets, release, log });
      return openDatabase({
        connection: own === undefined ? server.connection(name) : { connectionString: own },
        name,
        limit,
        log,
        metrics,
      });
    },
    async connectDirectly() {
      const client = new Client(direct.connection("postgres"));
      await client.connect();
      return client;
    },
    stop: server.stop,
  };
}

async function embedded(settings: PlatformSettings, log: Log, onLost: (error: Error) => void): Promise<Server> {
  const { connection, stop } = await startEmbeddedPostgres({ folder: settings.dataFolder, log, onLost });
  return { connection, stop, description: `embedded in ${settings.dataFolder}` };
}

/** A server by its URL, whose database is another one in each connection. */
export function outside(text: string): Server {
  const url = new URL(text);
  const connection = (database: string): ClientConfig => {
    const own = new URL(url);
    own.pathname = `/${database}`;
    return { connectionString: own.href };
  };
  return { connection, description: `${url.hostname || "localhost"}:${url.port || 5432}`, stop: async () => {} };
}
