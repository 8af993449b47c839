import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, type ClientConfig, Pool } from "pg";
import { deploymentSecret } from "#platform/access/secret.ts";
import { KV_DATABASE, ownDatabaseSettings } from "#platform/config/platform-settings.ts";
import type { EventLog } from "#platform/events/event-log.ts";
import { openCluster } from "#platform/postgres/cluster.ts";
import { connectionOf, urlOf } from "#platform/postgres/connection-url.testing.ts";
import { ensureDatabase } from "#platform/postgres/create-database.ts";
import { attachEmbeddedPostgres, type EmbeddedPostgres, startEmbeddedPostgres } from "#platform/postgres/embedded.ts";
import { databaseName } from "#platform/process/databases.ts";
import { createLog } from "#platform/telemetry/create-log.ts";
import { accessTokens } from "../../services/auth/keys/access-tokens.testing.ts";
import { orderPayments } from "../../systems/order-payments.ts";
import { databaseSettings, engineSettings } from "../support/engine-settings.ts";
import { type PolisChild, postmasterPid, signalled, startPolisChild } from "../support/polis-child.ts";
import { reachLog } from "../support/reach-log.ts";
import { until } from "../support/until.ts";
import { type Books, behindInPostgres, type Sql } from "./check.ts";

/** Where a drill runs Polis: a folder, databases, and the ways to them. */
export type Site = {
  readonly folder: string;
  readonly secret: () => Promise<string>;
  /** The headers by which users are known, once auth has run here. */
  readonly identities: () => Promise<(userId: string) => Readonly<Record<string, string>>>;
  readonly books: Books;
  /** A new process here, with more of a command line and of an environment. */
  start(args?: readonly string[], environment?: Readonly<Record<string, string>>): PolisChild;
  /** Ends what still runs and, unless it is to be looked at, deletes the folder. */
  close(options: { readonly keep: boolean }): Promise<void>;
};

const SECRET = "the secret of a deployment that is there for a drill alone";

/** Every service's, and the key-value store's. */
const DATABASES = [...orderPayments.services.map(({ name }) => name), KV_DATABASE];

/** A token is good for minutes, and a drill lasts longer: each request has one that is fresh enough. */
const TOKEN_MS = 5 * 60_000;

async function bearers(sql: Sql, secret: string): ReturnType<Site["identities"]> {
  const tokenOf = await accessTokens((text) => sql<Record<string, unknown>>("auth", text), secret);
  const made = new Map<string, { readonly token: string; readonly atMs: number }>();
  return (userId) => {
    let known = made.get(userId);
    if (known === undefined || Date.now() - known.atMs > TOKEN_MS) known = { token: tokenOf(userId), atMs: Date.now() };
    made.set(userId, known);
    return { authorization: `Bearer ${known.token}` };
  };
}

const folderOf = (): Promise<string> => mkdtemp(join(tmpdir(), "polis-drill-"));

/** A site whose PostgreSQL is the one that Polis starts itself; `postgresFolder` is its PGDATA. */
export type EmbeddedSite = Site & { readonly postgresFolder: string };

/** A place for one Polis on its embedded PostgreSQL. */
export async function embeddedSite(): Promise<EmbeddedSite> {
  const folder = await folderOf();
  await openCluster(folder);
  const { connection, dataFolder } = await attachEmbeddedPostgres(folder);
  const sql = sqlOver((service) => connection(databaseName(service)));
  const endPostgres = async (): Promise<void> => {
    // A killed Polis leaves its server running, as it should.
    const pid = await postmasterPid(dataFolder);
    if (pid !== undefined && signalled(pid, "SIGINT"))
      await until(`the end of PostgreSQL ${pid}`, async () => (await postmasterPid(dataFolder)) === undefined, { withinMs: 60_000 });
  };
  return {
    ...processesIn(folder, { args: ["--data", folder], environment: {}, end: endPostgres }),
    postgresFolder: dataFolder,
    secret: () => deploymentSecret({ folder }),
    identities: async () => bearers(sql, await deploymentSecret({ folder })),
    books: { sql, behind: () => behindInPostgres(sql) },
  };
}

/** Any number of Polis on one PostgreSQL by URL, which the drill runs. */
export async function sharedSite(): Promise<Site> {
  const folder = await folderOf();
  const log = await createLog({ level: "fatal", format: "json" });
  const postgres: EmbeddedPostgres = await startEmbeddedPostgres({ folder, log, settings: { max_connections: "200" } });
  const sql = sqlOver((service) => postgres.connection(databaseName(service)));
  const environment = { POSTGRES_URL: urlOf(postgres.connection("postgres")), POLIS_SECRET: SECRET };
  return {
    ...processesIn(folder, { args: [], environment, end: () => postgres.stop() }),
    secret: async () => SECRET,
    identities: () => bearers(sql, SECRET),
    books: { sql, behind: () => behindInPostgres(sql) },
  };
}

/** Any number of Polis on the engines that the environment names, with databases and topics of their own. */
export async function enginesSite(): Promise<Site & { readonly log: EventLog }> {
  const { POSTGRES_URL = "", POSTGRES_DIRECT_URL = POSTGRES_URL } = process.env;
  const server = connectionOf(POSTGRES_DIRECT_URL);
  const id = randomBytes(4).toString("hex");
  const databaseOf = (service: string): ClientConfig => ({ ...server, database: `drill_${id}_${service}` });
  for (const service of DATABASES) await ensureDatabase(server, `drill_${id}_${service}`);
  const environment = {
    POSTGRES_URL,
    POSTGRES_DIRECT_URL,
    ...Object.assign({}, ...DATABASES.map((service) => databaseSettings(ownDatabaseSettings(service), databaseOf(service)))),
    ...engineSettings(`drill.${id}.`),
    POLIS_SECRET: SECRET,
  };
  const { log, groups, close } = await reachLog(environment, await createLog({ level: "fatal", format: "json" }));
  const end = async (): Promise<void> => {
    await close();
    const admin = new Client(server);
    await admin.connect();
    for (const service of DATABASES) await admin.query(`DROP DATABASE drill_${id}_${service} WITH (FORCE)`);
    await admin.end();
  };
  return {
    ...processesIn(await folderOf(), { args: [], environment, end }),
    secret: async () => SECRET,
    identities: () => bearers(sqlOver(databaseOf), SECRET),
    books: {
      sql: sqlOver(databaseOf),
      behind: async () => (await groups.list()).filter(({ lag }) => lag > 0n).map(({ group, lag }) => `${group} is ${lag} behind`),
    },
    log,
  };
}

type Surroundings = {
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Ends what was started beside the processes. */
  readonly end: () => Promise<void>;
};

/** Processes that are ended with their site. */
function processesIn(folder: string, { args, environment, end }: Surroundings): Pick<Site, "folder" | "start" | "close"> {
  const children: PolisChild[] = [];
  return {
    folder,
    start: (more = [], moreEnvironment = {}) => {
      const child = startPolisChild([...args, ...more], { ...environment, ...moreEnvironment });
      children.push(child);
      return child;
    },
    async close({ keep }) {
      for (const child of children) {
        if (!child.isRunning()) continue;
        child.signal("SIGKILL");
        await child.ended;
      }
      await end();
      if (!keep) await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A pool a question: none is left over from before a crash, and no connection idles into one. */
const sqlOver =
  (connectionTo: (service: string) => ClientConfig): Sql =>
  async (service, text) => {
    const pool = new Pool({ ...connectionTo(service), max: 1 });
    pool.on("error", () => undefined).on("connect", (client) => client.on("error", () => undefined));
    try {
      return (await pool.query(text)).rows;
    } finally {
      await pool.end();
    }
  };
