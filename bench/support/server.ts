import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, type ClientConfig } from "pg";
import { urlOf } from "#platform/postgres/connection-url.testing.ts";
import { startEmbeddedPostgres } from "#platform/postgres/embedded.ts";
import { endLeftServers } from "#platform/postgres/left-servers.testing.ts";
import { familyCpuUs } from "./cpu.ts";
import { benchLog } from "./log.ts";

/** A fresh server of PostgreSQL, as durable as the one of `npm start`, for both sides of every ratio. */
export type BenchServer = {
  /** A folder for what goes with it; gone at the end. */
  readonly folder: string;
  connection(database: string): ClientConfig;
  /** The same as POSTGRES_URL. */
  readonly url: string;
  /** CPU time of the server with all its backends, in µs. */
  cpuUs(): number | undefined;
  /** Vacuums and writes back what was left, in all databases: it isn't for the next side to pay. */
  tidy(): Promise<void>;
};

const FOLDER = "polis-bench-";

/** Starts the server that Polis embeds, with the same settings, in a temporary folder; `parts` ends it. */
export async function startServer(parts: AsyncDisposableStack): Promise<BenchServer> {
  const log = benchLog();
  await endLeftServers(FOLDER, log);
  const folder = await mkdtemp(join(tmpdir(), `${FOLDER}${process.pid}-`));
  parts.defer(() => rm(folder, { recursive: true, force: true }));
  const { connection, dataFolder, stop } = await startEmbeddedPostgres({ folder, log });
  parts.defer(stop);
  const pid = Number.parseInt(await readFile(join(dataFolder, "postmaster.pid"), "utf8"), 10);
  return {
    folder,
    connection,
    url: urlOf(connection("postgres")),
    cpuUs: () => familyCpuUs(pid),
    tidy: () => tidy(connection),
  };
}

async function tidy(connection: BenchServer["connection"]): Promise<void> {
  const run = async <R extends object>(database: string, ...statements: readonly string[]): Promise<R[]> => {
    const client = new Client(connection(database));
    await client.connect();
    try {
      let rows: R[] = [];
      for (const statement of statements) ({ rows } = await client.query<R>(statement));
      return rows;
    } finally {
      await client.end();
    }
  };
  const databases = await run<{ datname: string }>("postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate AND datallowconn");
  for (const { datname } of databases) await run(datname, "SET statement_timeout = 0", "VACUUM");
  await run("postgres", "CHECKPOINT");
}

/** A connection of the bench's own; `parts` ends it. */
export async function connect(server: BenchServer, database: string, parts: AsyncDisposableStack): Promise<Client> {
  const client = new Client(server.connection(database));
  client.on("error", () => undefined);
  await client.connect();
  parts.defer(() => client.end());
  return client;
}
