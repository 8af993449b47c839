import type { ClientConfig } from "pg";
import { ownDatabaseSettings, type PlatformSettings } from "#platform/config/platform-settings.ts";
import { isConnectionLost, isGivenUpWaiting, sqlState } from "#platform/postgres/errors.ts";

/** A PostgreSQL in which a process has databases. */
export type DatabaseServer = {
  readonly connection: (database: string) => ClientConfig;
  /** How it is reached, for a person. */
  readonly description: string;
  /** It knows a statement that was prepared in the transaction before. */
  readonly preparesStatements: boolean;
  /** Runs what connects to it. Where it isn't reached, or doesn't let us in, the error names the setting that leads there. */
  readonly reach: <T>(work: () => Promise<T>) => Promise<T>;
  /** Stops the embedded one; another stays. */
  readonly stop: () => Promise<void>;
};

/** A server as it is reached for work, perhaps through a pooler, and around that, for what needs a session of its own. */
export type DatabaseServers = {
  readonly pooled: DatabaseServer;
  readonly direct: DatabaseServer;
  /** The settings that say both, where there are two. */
  readonly settings: string | undefined;
};

/** The server of POSTGRES_URL; undefined where there is none. */
export const outsideServers = ({ postgresUrl: url, postgresDirectUrl: directUrl, postgresPrepare }: PlatformSettings) =>
  serversOf({ names: { url: "POSTGRES_URL", directUrl: "POSTGRES_DIRECT_URL" }, url, directUrl, isForOne: false }, postgresPrepare);

/** The server of a service that has a URL of its own, whose database is the one that the URL names. */
export const ownServers = ({ postgresUrlOf, postgresDirectUrlOf, postgresPrepare }: PlatformSettings, service: string) =>
  serversOf(
    { names: ownDatabaseSettings(service), url: postgresUrlOf[service], directUrl: postgresDirectUrlOf[service], isForOne: true },
    postgresPrepare,
  );

type Said = {
  /** Of the settings. */
  readonly names: { readonly url: string; readonly directUrl: string };
  readonly url: string | undefined;
  readonly directUrl: string | undefined;
  /** The URLs name a database, and are for that one alone. */
  readonly isForOne: boolean;
};

function serversOf({ names, url, directUrl, isForOne }: Said, prepare: PlatformSettings["postgresPrepare"]): DatabaseServers | undefined {
  if (url === undefined) return undefined;
  const preparesStatements = prepare === "auto" ? directUrl === undefined : prepare === "on";
  const pooled = { ...outside(names.url, url, isForOne), preparesStatements };
  if (directUrl === undefined) return { pooled, direct: pooled, settings: undefined };
  return { pooled, direct: outside(names.directUrl, directUrl, isForOne), settings: `${names.url} and ${names.directUrl}` };
}

/** The server of a URL, which `setting` holds. */
function outside(setting: string, text: string, isForOne: boolean): DatabaseServer {
  const url = new URL(text);
  const description = `${url.hostname || "localhost"}:${url.port || 5432}`;
  return {
    description,
    preparesStatements: true,
    connection(database) {
      if (isForOne) return { connectionString: text };
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

/** The embedded server, which needs no setting to be reached. */
export const embeddedServer = ({
  folder,
  ...server
}: Pick<DatabaseServer, "connection" | "stop"> & { readonly folder: string }): DatabaseServer => ({
  ...server,
  description: `embedded in ${folder}`,
  preparesStatements: true,
  reach: (work) => work(),
});

/** Not reached; or, of class 28, reached under a name or a password that it doesn't take. */
const isShut = (error: unknown): boolean =>
  (isConnectionLost(error) && !isGivenUpWaiting(error)) || sqlState(error)?.startsWith("28") === true;
