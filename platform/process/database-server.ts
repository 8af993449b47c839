import type { ClientConfig } from "pg";
import { ownDatabaseSetting, type PlatformSettings } from "#platform/config/platform-settings.ts";
import { isConnectionLost, isGivenUpWaiting, sqlState } from "#platform/postgres/errors.ts";

/** A PostgreSQL in which a process has databases. */
export type DatabaseServer = {
  readonly connection: (database: string) => ClientConfig;
  /** How it is reached, for a person. */
  readonly description: string;
  /** Runs what connects to it. Where it isn't reached, or doesn't let us in, the error names the setting that leads there. */
  readonly reach: <T>(work: () => Promise<T>) => Promise<T>;
  /** Stops the embedded one; another stays. */
  readonly stop: () => Promise<void>;
};

/** The server of a URL, which `setting` holds. The database is another one in each connection. */
export function outside(setting: string, text: string): DatabaseServer {
  const url = new URL(text);
  const description = `${url.hostname || "localhost"}:${url.port || 5432}`;
  return {
    description,
    connection(database) {
      const own = new URL(url);
      own.pathname = `/${database}`;
      return { connectionString: own.href };
    },
    async reach(work) {
      try {
        return await work();
      } catch (cause) {
        if (!isShut(cause)) throw cause;
        const hint = `see that one runs there, and that ${setting} is right`;
        throw new Error(`no PostgreSQL lets us in at ${description}, which is what ${setting} says: ${hint}`, { cause });
      }
    },
    stop: async () => {},
  };
}

/** The server of a service that has a URL of its own, whose database is the one that the URL names. */
export function ownServer({ postgresUrlOf }: PlatformSettings, service: string): DatabaseServer | undefined {
  const url = postgresUrlOf[service];
  return url === undefined ? undefined : { ...outside(ownDatabaseSetting(service), url), connection: () => ({ connectionString: url }) };
}

/** Not reached; or, of class 28, reached under a name or a password that it doesn't take. */
const isShut = (error: unknown): boolean =>
  (isConnectionLost(error) && !isGivenUpWaiting(error)) || sqlState(error)?.startsWith("28") === true;
