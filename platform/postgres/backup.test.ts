import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, test, vi } from "vitest";
import { backup, restore } from "#platform/postgres/backup.ts";
import { ensureDatabase } from "#platform/postgres/create-database.ts";
import { testLog } from "#platform/postgres/database.testing.ts";
import type { Database } from "#platform/postgres/database.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "#platform/postgres/embedded.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

/** So that the log doesn't outgrow the data. */
const DISTURB_PAUSE_MS = 200;
const TIMEOUT_MS = 60_000;

const root = mkdtempSync(join(tmpdir(), "polis-backup-"));

// The server of a test run by root has another user.
chmodSync(root, 0o711);
afterAll(() => rmSync(root, { recursive: true, force: true }));

const folder = join(root, "data");
const start = (of: string): Promise<EmbeddedPostgres> => startEmbeddedPostgres({ folder: of, log: testLog, durable: false });
const open = (postgres: EmbeddedPostgres, name: string): Promise<Database> =>
  openDatabase({ connection: postgres.connection(name), name, log: testLog, metrics: new Metrics() });
const idsOf = async (database: Database): Promise<Set<string>> =>
  new Set((await database.query<{ id: string }>({ text: "SELECT id::text AS id FROM t" })).rows.map(({ id }) => id));

/** Databases a and b, and writers that write each row to b only after it is in a. */
async function startWriting(postgres: EmbeddedPostgres) {
  const make = async (name: string): Promise<Database> => {
    await ensureDatabase(postgres.connection("postgres"), name);
    const database = await open(postgres, name);
    await database.query({ text: "CREATE TABLE t (id bigint PRIMARY KEY, filler text DEFAULT repeat('x', 500))" });
    return database;
  };
  const [a, b] = [await make("a"), await make("b")];
  let next = 0;
  let isWriting = true;
  const write = async (): Promise<void> => {
    while (isWriting) {
      const insert = { text: "INSERT INTO t (id) VALUES ($1)", values: [next++], name: "insert" };
      await a.transaction((tx) => tx.commit([insert]), { durable: true });
      await b.transaction((tx) => tx.commit([insert]), { durable: true });
    }
  };
  // What is copied is then of many moments, and spread over many files of the log.
  const disturb = async (): Promise<void> => {
    while (isWriting) {
      await a.query({ text: "CHECKPOINT" });
      await a.query({ text: "SELECT pg_switch_wal()" });
      await sleep(DISTURB_PAUSE_MS);
    }
  };
  const writers = [write(), write(), write(), disturb()];
  return {
    written: () => next,
    stop: async () => {
      isWriting = false;
      await Promise.all(writers);
      await Promise.all([a.close(), b.close()]);
    },
  };
}

test(
  "a backup under writers restores all databases at one position, in which no effect is without its cause",
  async () => {
    const postgres = await start(folder);
    writeFileSync(join(folder, "secret"), "the secret");
    const writers = await startWriting(postgres);
    await vi.waitFor(() => expect(writers.written()).toBeGreaterThan(200), { timeout: 10_000 });
    const writtenBefore = writers.written();
    const target = join(root, "backup");
    const manifest = await backup({ folder, target, log: testLog });
    const writtenAfter = writers.written();
    await writers.stop();
    await postgres.stop();
    expect(writtenAfter).toBeGreaterThan(writtenBefore);
    expect(JSON.parse(readFileSync(join(target, "backup.json"), "utf8"))).toEqual(manifest);

    const restored = join(root, "restored");
    await restore({ source: target, folder: restored });
    expect(readFileSync(join(restored, "secret"), "utf8")).toBe("the secret");
    const again = await start(restored);
    const [a, b] = [await open(again, "a"), await open(again, "b")];
    const [inA, inB] = [await idsOf(a), await idsOf(b)];
    expect([...inB].filter((id) => !inA.has(id))).toEqual([]);
    // Each of the three writers may have one on its way.
    expect(inB.size).toBeGreaterThanOrEqual(writtenBefore - 3);
    expect(inA.size).toBeLessThanOrEqual(writtenAfter);
    // And it is a database like any other.
    await a.query({ text: "INSERT INTO t (id) VALUES (-1)" });
    await Promise.all([a.close(), b.close()]);
    await again.stop();
  },
  TIMEOUT_MS,
);

test("a backup can be made while no Polis runs", async () => {
  const target = join(root, "cold");
  await backup({ folder, target, log: testLog });
  expect(existsSync(join(target, "backup.json"))).toBe(true);
  expect(existsSync(join(folder, "postgres", "postmaster.pid"))).toBe(false);
});

test("a restored server that runs beside its original is told apart from it", async () => {
  const copy = join(root, "copy");
  await restore({ source: join(root, "cold"), folder: copy });
  const servers = [await start(folder), await start(copy)];
  const databases = await Promise.all(servers.map((server) => open(server, "a")));
  expect(new Set(databases.map(({ serverId }) => serverId)).size).toBe(2);
  for (const database of databases) await database.close();
  for (const server of servers) await server.stop();
});

test("a backup never takes the place of another, and leaves nothing behind when it fails", async () => {
  await expect(backup({ folder, target: join(root, "cold"), log: testLog })).rejects.toThrow("is there already");
  await expect(backup({ folder: join(root, "nothing"), target: join(root, "of-nothing"), log: testLog })).rejects.toThrow(
    "holds no database",
  );
  expect(existsSync(join(root, "nothing"))).toBe(false);
  const postgres = await start(folder);
  const tablespaces = join(postgres.dataFolder, "pg_tblspc", "1");
  mkdirSync(tablespaces);
  await expect(backup({ folder, target: join(root, "failed"), log: testLog })).rejects.toThrow("tablespaces");
  rmSync(tablespaces, { recursive: true });
  await postgres.stop();
  expect(readdirSync(root).filter((name) => name.startsWith("failed"))).toEqual([]);
});

test("restore refuses a folder that isn't empty", async () => {
  await expect(restore({ source: join(root, "cold"), folder })).rejects.toThrow("isn't empty");
});

test("restore refuses what is incomplete, damaged, or of another version, and leaves the folder as it was", async () => {
  const source = join(root, "cold");
  const into = join(root, "into");
  mkdirSync(into);
  await expect(restore({ source: folder, folder: into })).rejects.toThrow("no complete backup");
  const manifest = readFileSync(join(source, "backup.json"), "utf8");
  writeFileSync(join(source, "backup.json"), manifest.replace(/"postgresVersion": "18/, '"postgresVersion": "17'));
  await expect(restore({ source, folder: into })).rejects.toThrow("PostgreSQL 17");
  writeFileSync(join(source, "backup.json"), manifest.replace('"format": 1', '"format": 2'));
  await expect(restore({ source, folder: into })).rejects.toThrow("format 2");
  writeFileSync(join(source, "backup.json"), manifest);
  const version = readFileSync(join(source, "postgres", "PG_VERSION"));
  writeFileSync(join(source, "postgres", "PG_VERSION"), "19\n");
  await expect(restore({ source, folder: into })).rejects.toThrow("postgres/PG_VERSION isn't what was written");
  rmSync(join(source, "postgres", "PG_VERSION"));
  await expect(restore({ source, folder: into })).rejects.toThrow("postgres/PG_VERSION is missing");
  expect(readdirSync(into)).toEqual([]);
  await expect(restore({ source, folder: join(root, "new", "deep") })).rejects.toThrow("postgres/PG_VERSION is missing");
  expect(existsSync(join(root, "new"))).toBe(false);
  writeFileSync(join(source, "postgres", "PG_VERSION"), version);
  await restore({ source, folder: into });
});
