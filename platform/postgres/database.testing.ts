import { createHash, randomBytes } from "node:crypto";
import { basename, dirname } from "node:path";
import { Client, type ClientConfig } from "pg";
import { pino } from "pino";
import { afterAll, inject } from "vitest";
import { sessionSettings, setSessions } from "#platform/postgres/create-database.ts";
import type { Database } from "#platform/postgres/database.ts";
import { migrate } from "#platform/postgres/migrate.ts";
import { type MigrationSet, readMigrations } from "#platform/postgres/migration-files.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import type { Log } from "#platform/telemetry/log.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

/** Newer than every migration. */
const RELEASE = "9999.0.0";

export const testLog = pino({ level: process.env.TEST_LOG ?? "silent" }) as unknown as Log;

/** How many sessions of a database wait for a lock. */
export const waitingForLocks = async (database: Database): Promise<number> =>
  (await database.query({ text: "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'" })).rowCount;

/** The run's server, at its database `postgres`. */
export function testServer(): ClientConfig {
  const connection = inject("postgres") as ClientConfig | undefined;
  if (connection === undefined) throw new Error("tests on PostgreSQL need platform/postgres/server.testing.ts in vitest's globalSetup");
  return connection;
}

export type TestDatabaseOptions = {
  /** Folders of migrations, in the order in which they are applied. */
  readonly migrations?: readonly string[];
  readonly maxConnections?: number;
  readonly metrics?: Metrics;
};

/**
 * A fresh, migrated database, dropped after the tests of the file (or of the `describe` that it is called in).
 * @example const database = await testDatabase({ migrations: [join(import.meta.dirname, "migrations")] });
 */
export async function testDatabase(options: TestDatabaseOptions = {}): Promise<Database> {
  const made = await testDatabaseConnection(options.migrations ?? []);
  const database = await openDatabase({
    connection: made,
    name: "test",
    maxConnections: options.maxConnections ?? 4,
    log: testLog,
    metrics: options.metrics ?? new Metrics(),
  });
  // Hooks run last in, first out: closed before it is dropped.
  afterAll(() => database.close());
  return database;
}

/** The same, as a connection. */
export async function testDatabaseConnection(folders: readonly string[] = []): Promise<ClientConfig> {
  const name = `test_${randomBytes(8).toString("hex")}`;
  await withServer(async (client) => {
    const template = await templateOf(client, folders);
    await client.query(`CREATE DATABASE ${name} TEMPLATE ${template}`);
    // Nobody waits for the disk in a test, whatever the server does elsewhere.
    await setSessions(client, name, { ...sessionSettings, synchronous_commit: "off" });
  });
  afterAll(() => withServer((client) => client.query(`DROP DATABASE ${name} WITH (FORCE)`)));
  return { ...testServer(), database: name };
}

async function withServer<T>(run: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client(testServer());
  await client.connect();
  try {
    return await run(client);
  } finally {
    await client.end();
  }
}

/** The template database for these folders' content, made by the first worker that asks; the others wait. */
async function templateOf(client: Client, folders: readonly string[]): Promise<string> {
  if (folders.length === 0) return "template0";
  const sets = folders.map((folder): MigrationSet => ({ name: basename(dirname(folder)), folder }));
  const migrations = await readMigrations(sets);
  const content = migrations.map(({ set, name, checksum }) => `${set} ${name} ${checksum}`).join("\n");
  const name = `template_${createHash("sha256").update(content).digest("hex").slice(0, 24)}`;
  await client.query("SELECT pg_advisory_lock(hashtextextended($1, 0))", [name]);
  try {
    // The mark of a template is set last: without it, somebody died half-way.
    const { rowCount } = await client.query("SELECT FROM pg_database WHERE datname = $1 AND datistemplate", [name]);
    if (rowCount === 1) return name;
    await client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    await client.query(`CREATE DATABASE ${name} TEMPLATE template0`);
    await migrate({ connection: { ...testServer(), database: name }, sets, release: RELEASE, log: testLog });
    await client.query(`ALTER DATABASE ${name} IS_TEMPLATE true ALLOW_CONNECTIONS false`);
  } finally {
    await client.query("SELECT pg_advisory_unlock(hashtextextended($1, 0))", [name]);
  }
  return name;
}
