import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ClientConfig, Pool } from "pg";
import { deploymentSecret } from "#platform/access/secret.ts";
import { openCluster } from "#platform/postgres/cluster.ts";
import { attachEmbeddedPostgres, type EmbeddedPostgres, startEmbeddedPostgres } from "#platform/postgres/embedded.ts";
import { databaseName } from "#platform/process/databases.ts";
import { createLog } from "#platform/telemetry/create-log.ts";
import { type PolisChild, postmasterPid, signalled, startPolisChild } from "../support/polis-child.ts";
import { urlOf } from "../support/postgres-url.ts";
import { until } from "../support/until.ts";
import { type Books, behindInPostgres, type Sql } from "./check.ts";

/** Where a drill runs Polis: a data folder, its PostgreSQL, and the ways to them. */
export type Site = {
  readonly folder: string;
  /** PGDATA. */
  readonly postgresFolder: string;
  readonly secret: () => Promise<string>;
  readonly books: Books;
  /** A new process here, with more of a command line and of an environment. */
  start(args?: readonly string[], environment?: Readonly<Record<string, string>>): PolisChild;
  /** Ends what still runs and, unless it is to be looked at, deletes the folder. */
  close(options: { readonly keep: boolean }): Promise<void>;
};

/** A Kafka for a drill, in which names of its own are used. */
export type KafkaOfDrill = {
  readonly environment: Readonly<Record<string, string>>;
  readonly behind: Books["behind"];
};

const folderOf = (): Promise<string> => mkdtemp(join(tmpdir(), "polis-drill-"));

/** One Polis, with the embedded PostgreSQL that it starts itself. */
export async function embeddedSite(): Promise<Site> {
  const folder = await folderOf();
  await openCluster(folder);
  const { connection, dataFolder } = await attachEmbeddedPostgres(folder);
  const children: PolisChild[] = [];
  const sql = sqlOver(connection);
  return {
    folder,
    postgresFolder: dataFolder,
    secret: () => deploymentSecret({ folder }),
    books: { sql, behind: () => behindInPostgres(sql) },
    start: (args = [], environment = {}) => {
      const child = startPolisChild(["--data", folder, ...args], environment);
      children.push(child);
      return child;
    },
    async close({ keep }) {
      await endAll(children);
      // A killed Polis leaves its server running, as it should.
      const pid = await postmasterPid(dataFolder);
      if (pid !== undefined && signalled(pid, "SIGINT"))
        await until(`the end of PostgreSQL ${pid}`, async () => (await postmasterPid(dataFolder)) === undefined, { withinMs: 60_000 });
      if (!keep) await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Any number of Polis on one PostgreSQL by URL, which the drill runs, and on Kafka where it is given. */
export async function sharedSite(kafka?: KafkaOfDrill): Promise<Site> {
  const folder = await folderOf();
  const log = await createLog({ level: "fatal", format: "json" });
  const postgres: EmbeddedPostgres = await startEmbeddedPostgres({ folder, log, settings: { max_connections: "200" } });
  const children: PolisChild[] = [];
  const secret = "the secret of a deployment that is there for a drill alone";
  const sql = sqlOver(postgres.connection);
  return {
    folder,
    postgresFolder: postgres.dataFolder,
    secret: async () => secret,
    books: { sql, behind: kafka?.behind ?? (() => behindInPostgres(sql)) },
    start: (args = [], environment = {}) => {
      const own = { POSTGRES_URL: urlOf(postgres.connection("postgres")), POLIS_SECRET: secret, ...kafka?.environment };
      const child = startPolisChild(args, { ...own, ...environment });
      children.push(child);
      return child;
    },
    async close({ keep }) {
      await endAll(children);
      await postgres.stop();
      if (!keep) await rm(folder, { recursive: true, force: true });
    },
  };
}

async function endAll(children: readonly PolisChild[]): Promise<void> {
  for (const child of children) {
    if (!child.isRunning()) continue;
    child.signal("SIGKILL");
    await child.ended;
  }
}

/** A pool a question: none is left over from before a crash, and no connection idles into one. */
const sqlOver =
  (connection: (database: string) => ClientConfig): Sql =>
  async (service, text) => {
    const pool = new Pool({ ...connection(databaseName(service)), max: 1 });
    pool.on("error", () => undefined);
    try {
      return (await pool.query(text)).rows;
    } finally {
      await pool.end();
    }
  };
