import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, type ClientConfig } from "pg";
import { afterAll, expect, test, vi } from "vitest";
import { ensureDatabase } from "#platform/postgres/create-database.ts";
import { testDatabaseConnection, testLog, testServer } from "#platform/postgres/database.testing.ts";
import { migrate } from "#platform/postgres/migrate.ts";
import { compareReleases, previousMinor } from "#platform/postgres/releases.ts";

const root = mkdtempSync(join(tmpdir(), "polis-migrations-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let folders = 0;
/** A folder with these files. */
function folderOf(files: Record<string, string>): string {
  const folder = join(root, String(folders++), "migrations");
  mkdirSync(folder, { recursive: true });
  for (const [name, sql] of Object.entries(files)) writeFileSync(join(folder, name), sql);
  return folder;
}
const run = (connection: ClientConfig, folder: string, release = "0.1.0"): Promise<void> =>
  migrate({ connection, sets: [{ name: "orders", folder }], release, log: testLog });

async function connect(connection: ClientConfig): Promise<Client> {
  const client = new Client(connection);
  await client.connect();
  return client;
}
async function valuesOf(connection: ClientConfig, sql: string): Promise<unknown[]> {
  const client = await connect(connection);
  try {
    return (await client.query({ text: sql, rowMode: "array" })).rows.flat();
  } finally {
    await client.end();
  }
}

const CREATE = "-- release: 0.1.0\nCREATE TABLE t (id integer);\nINSERT INTO t VALUES (1);\n";
const ADD = "-- release: 0.1.0\nALTER TABLE t ADD COLUMN n integer;\n";

test("migrations are applied once, in order, and recorded", async () => {
  const connection = await testDatabaseConnection();
  const folder = folderOf({ "0002-n.sql": ADD, "0001-t.sql": CREATE });
  await run(connection, folder);
  await run(connection, folder);
  expect(await valuesOf(connection, "SELECT id FROM t WHERE n IS NULL")).toEqual([1]);
  expect(await valuesOf(connection, "SELECT set || ' ' || name FROM polis_migrations ORDER BY number")).toEqual([
    "orders 0001-t.sql",
    "orders 0002-n.sql",
  ]);
});

test("several starters at once do each migration once", async () => {
  const connection = await testDatabaseConnection();
  const slow = Object.fromEntries(
    ["0001", "0002", "0003"].map((n) => [`${n}-t.sql`, `-- release: 0.1.0\nCREATE TABLE t${n} ();\nSELECT pg_sleep(0.1);\n`]),
  );
  const folder = folderOf({
    ...slow,
    "0004-i.sql": "-- release: 0.1.0\n-- polis: no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS i ON polis_migrations (name);\n",
  });
  await Promise.all(Array.from({ length: 4 }, () => run(connection, folder)));
  expect(await valuesOf(connection, "SELECT number FROM polis_migrations ORDER BY number")).toEqual([1, 2, 3, 4]);
});

test("a migration that fails leaves nothing of itself, and is tried again at the next start", async () => {
  const connection = await testDatabaseConnection();
  await expect(run(connection, folderOf({ "0001-t.sql": `${CREATE}SELECT 1 / 0;\n` }))).rejects.toThrow(
    "migration 0001-t.sql of orders failed: division by zero",
  );
  await run(connection, folderOf({ "0001-t.sql": CREATE }));
  expect(await valuesOf(connection, "SELECT id FROM t")).toEqual([1]);
});

test("a file that was changed after it was applied is named", async () => {
  const connection = await testDatabaseConnection();
  await run(connection, folderOf({ "0001-t.sql": CREATE }));
  await expect(run(connection, folderOf({ "0001-t.sql": `${CREATE}-- a word more\n` }))).rejects.toThrow(
    "0001-t.sql of orders was changed",
  );
  await run(connection, folderOf({ "0001-t.sql": CREATE.replaceAll("\n", "\r\n") }));
});

test("a file that is gone, or comes before an applied one, is named", async () => {
  const connection = await testDatabaseConnection();
  await run(connection, folderOf({ "0001-t.sql": CREATE, "0003-n.sql": ADD }));
  await expect(run(connection, folderOf({ "0001-t.sql": CREATE }))).rejects.toThrow(
    "0003-n.sql of orders was applied, but its file is gone",
  );
  const between = folderOf({ "0001-t.sql": CREATE, "0002-x.sql": "-- release: 0.1.0\nSELECT 1;\n", "0003-n.sql": ADD });
  await expect(run(connection, between)).rejects.toThrow("0002-x.sql of orders comes before one that was applied");
});

test("code one release older runs on a newer database, an older one refuses", async () => {
  const connection = await testDatabaseConnection();
  const old = folderOf({ "0001-t.sql": CREATE });
  const newer = folderOf({ "0001-t.sql": CREATE, "0002-n.sql": ADD.replace("0.1.0", "0.3.0") });
  await run(connection, newer, "0.3.0");
  await run(connection, old, "0.2.0");
  await expect(run(connection, old, "0.1.9")).rejects.toThrow("only 0.2.0 or later runs on it");
});

test("a file of a release after the running one is named, before anything is done", async () => {
  const connection = await testDatabaseConnection();
  const newer = folderOf({ "0001-t.sql": CREATE, "0002-n.sql": ADD.replace("0.1.0", "0.3.0") });
  await expect(run(connection, newer, "0.2.0")).rejects.toThrow(
    "0002-n.sql of orders says that release 0.3.0 brings it, and this is Polis 0.2.0",
  );
  expect(await valuesOf(connection, "SELECT to_regclass('t')")).toEqual([null]);
});

test("a migration may say that only newer code runs after it", async () => {
  const connection = await testDatabaseConnection();
  await run(connection, folderOf({ "0001-t.sql": "-- release: 0.3.0\n-- oldest-code: 0.3.0\nSELECT 1;\n" }), "0.3.0");
  await expect(run(connection, folderOf({}), "0.2.0")).rejects.toThrow("only 0.3.0 or later runs on it");
});

test("a migration waits for a long transaction without holding up everybody behind it", async () => {
  const connection = await testDatabaseConnection();
  await run(connection, folderOf({ "0001-t.sql": CREATE }));
  const long = await connect(connection);
  await long.query("BEGIN");
  await long.query("SELECT * FROM t");
  const migrating = run(connection, folderOf({ "0001-t.sql": CREATE, "0002-n.sql": ADD }));
  const waits = "SELECT count(*)::int FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'";
  await vi.waitFor(async () => expect(await valuesOf(connection, waits)).toEqual([1]), { timeout: 5_000 });
  // It queues before us, and must let us by within its lock timeout.
  const startedAtMs = performance.now();
  expect(await valuesOf(connection, "SELECT id FROM t")).toEqual([1]);
  expect(performance.now() - startedAtMs).toBeLessThan(3_000);
  await long.query("COMMIT");
  await long.end();
  await migrating;
  expect(await valuesOf(connection, "SELECT n FROM t")).toEqual([null]);
});

test("an index that an interrupted CONCURRENTLY left is made anew", async () => {
  const connection = await testDatabaseConnection();
  await run(connection, folderOf({ "0001-t.sql": `${CREATE}INSERT INTO t VALUES (1);\n` }));
  const client = await connect(connection);
  await expect(client.query("CREATE UNIQUE INDEX CONCURRENTLY t_id ON t (id)")).rejects.toThrow("could not create unique index");
  await client.query("DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t)");
  await client.end();
  const valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 't_id'::regclass";
  expect(await valuesOf(connection, valid)).toEqual([false]);
  const index = "-- release: 0.1.0\n-- polis: no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS t_id ON t (id);\n";
  await run(connection, folderOf({ "0001-t.sql": `${CREATE}INSERT INTO t VALUES (1);\n`, "0002-i.sql": index }));
  expect(await valuesOf(connection, valid)).toEqual([true]);
});

test.each([
  ["t.sql", CREATE, "NNNN-some-words.sql"],
  ["0001-t.sql", "CREATE TABLE t ();", "-- release: x.y.z"],
  ["0001-t.sql", "-- release: soon\n", "soon is no release"],
  ["0001-t.sql", "-- release: 1.0.0\n", "-- oldest-code: x.y.z"],
  ["0001-t.sql", "-- release: 0.1.0\n-- oldest-code: 0.2.0\n", "newer than the release"],
  ["0001-t.sql", "-- release: 0.1.0\n-- polis: fast\n", "unknown"],
  ["0001-t.sql", "-- release: 0.1.0\nSELECT 1;\nCOMMIT;\n", "neither begin nor end"],
  ["0001-t.sql", "-- release: 0.1.0\n-- polis: no-transaction\nCREATE INDEX CONCURRENTLY i ON t (id);\n", "IF NOT EXISTS"],
])("a file %s of %j is refused: %s", async (name, sql, why) => {
  await expect(run(testServer(), folderOf({ [name]: sql }))).rejects.toThrow(why);
});

test("two files of one number are refused", async () => {
  await expect(run(testServer(), folderOf({ "0001-a.sql": CREATE, "0001-b.sql": ADD }))).rejects.toThrow("same number");
});

test("releases are compared by number", () => {
  expect(["0.10.0", "0.9.1", "1.0.0-rc.1", "0.9.0"].sort(compareReleases)).toEqual(["0.9.0", "0.9.1", "0.10.0", "1.0.0-rc.1"]);
  expect([previousMinor("1.3.2"), previousMinor("2.0.0")]).toEqual(["1.2.0", undefined]);
});

test("a database is made once by several starters, with settings that its owner may change", async () => {
  const name = `made_${process.pid}`;
  await Promise.all(Array.from({ length: 5 }, () => ensureDatabase(testServer(), name)));
  const settings = "SELECT current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout')";
  const made = { ...testServer(), database: name };
  expect(await valuesOf(made, settings)).toEqual(["30s", "5s"]);
  await valuesOf(made, `ALTER DATABASE ${name} SET statement_timeout = '7s'`);
  await ensureDatabase(testServer(), name);
  expect(await valuesOf(made, settings)).toEqual(["7s", "5s"]);
  await valuesOf(testServer(), `DROP DATABASE ${name}`);
});
