import { setTimeout as sleep } from "node:timers/promises";
import type { Client, ClientConfig } from "pg";
import { sqlState } from "#platform/postgres/errors.ts";
import { type Migration, type MigrationSet, readMigrations, statementsOf } from "#platform/postgres/migration-files.ts";
import { compareReleases } from "#platform/postgres/releases.ts";
import { openSession } from "#platform/postgres/session.ts";
import type { Log } from "#platform/telemetry/log.ts";

export type { MigrationSet };

export type MigrateOptions = {
  /** The database itself; a direct connection where there is a pooler too. */
  readonly connection: ClientConfig;
  readonly sets: readonly MigrationSet[];
  /** The release of the running code. */
  readonly release: string;
  readonly log: Log;
};

type Applied = {
  readonly set: string;
  readonly number: number;
  readonly name: string;
  readonly checksum: string;
  readonly release: string;
  readonly oldest_code: string;
};

/** All starters of all services of a database meet at this advisory lock. */
const LOCK_KEY = 7_204_071_986;
const LOCK_PAUSE_MS = 100;
const LOCK_TIMEOUT_MS = 600_000;
/** How long a migration waits for a table: everybody else queues behind it meanwhile. */
const TABLE_LOCK_TIMEOUT_MS = 1_000;
const TABLE_LOCK_TRIES_MAX = 60;
const TABLE_LOCK_PAUSE_MS = 500;

const TABLE = `
CREATE TABLE IF NOT EXISTS polis_migrations (
  set text NOT NULL,
  number integer NOT NULL,
  name text NOT NULL,
  checksum text NOT NULL,
  release text NOT NULL,
  oldest_code text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (set, number)
);
COMMENT ON TABLE polis_migrations IS 'The migrations that this database has had';
COMMENT ON COLUMN polis_migrations.checksum IS 'SHA-256 of the file: what was applied never changes';
COMMENT ON COLUMN polis_migrations.oldest_code IS 'Code of an older release refuses to start on this database'`;

/**
 * Brings a database to where `sets` want it: forward only, each migration once, however many start at the same time.
 * @throws Error when an applied file was changed or is gone, when one was added before an applied one, when one is of a release
 * after `release`, or when the database wants newer code than that.
 */
export async function migrate({ connection, sets, release, log }: MigrateOptions): Promise<void> {
  const migrations = await readMigrations(sets);
  refuseNewer(migrations, release);
  const [client, guard] = [await openSession(connection), await openSession(connection)];
  try {
    const { rows } = await client.query<{ there: boolean }>("SELECT to_regclass('polis_migrations') IS NOT NULL AS there");
    if (rows[0]?.there !== true) await alone(client, async () => void (await client.query(TABLE)));
    const known = pendingOf(migrations, await readApplied(client), sets, release);
    for (const migration of known) {
      const startedAtMs = performance.now();
      // Looked at again under the lock: another starter may have done it.
      const isPending = async (of: Client): Promise<boolean> =>
        pendingOf(migrations, await readApplied(of), sets, release).includes(migration);
      const isDone = migration.isTransaction
        ? await applyInTransaction(client, migration, isPending, log)
        : await applyAlone(client, guard, migration, isPending);
      if (isDone)
        log.info({ set: migration.set, migration: migration.name, durationMs: Math.round(performance.now() - startedAtMs) }, "migrated");
    }
  } finally {
    await Promise.all([client.end(), guard.end()]);
  }
}

/** A slip in a header: the database would then shut out the very code that brought the file. */
function refuseNewer(migrations: readonly Migration[], release: string): void {
  for (const { set, name, release: theirs } of migrations)
    if (compareReleases(theirs, release) > 0)
      throw new Error(
        `migration ${name} of ${set} says that release ${theirs} brings it, and this is Polis ${release}: one of the two is wrong`,
      );
}

async function readApplied(client: Client): Promise<Applied[]> {
  const { rows } = await client.query<Applied>(
    "SELECT set, number, name, checksum, release, oldest_code FROM polis_migrations ORDER BY set, number",
  );
  return rows;
}

/** What is still to be done, in order, after everything that speaks against starting has been looked at. */
function pendingOf(
  migrations: readonly Migration[],
  applied: readonly Applied[],
  sets: readonly MigrationSet[],
  release: string,
): Migration[] {
  const ours = applied.filter(({ set }) => sets.some(({ name }) => name === set));
  for (const row of ours)
    if (compareReleases(release, row.oldest_code) < 0)
      throw new Error(
        `This is Polis ${release}, and the database has had migration ${row.name} of ${row.set}, after which only ${row.oldest_code} or later runs on it`,
      );
  const key = ({ set, number }: { set: string; number: number }): string => `${set} ${number}`;
  const files = new Map(migrations.map((migration) => [key(migration), migration]));
  const newest = new Map<string, number>();
  for (const row of ours) {
    newest.set(row.set, Math.max(row.number, newest.get(row.set) ?? 0));
    const file = files.get(key(row));
    // What newer code has brought is none of our business, as long as we run on it.
    if (file === undefined && compareReleases(row.release, release) > 0) continue;
    if (file === undefined) throw new Error(`migration ${row.name} of ${row.set} was applied, but its file is gone`);
    if (file.checksum !== row.checksum)
      throw new Error(`migration ${file.name} of ${file.set} was changed after it was applied; put it back as it was, and write a new one`);
  }
  const done = new Set(ours.map(key));
  const pending = migrations.filter((migration) => !done.has(key(migration)));
  for (const { set, number, name } of pending)
    if (number < (newest.get(set) ?? 0))
      throw new Error(`migration ${name} of ${set} comes before one that was applied already; give it the next number`);
  return pending;
}

/** Runs `work` in a transaction that holds the lock of all starters; a pooler may give each transaction another session. */
async function alone<T>(client: Client, work: () => Promise<T>): Promise<T> {
  await beginAlone(client);
  try {
    const result = await work();
    await client.query("COMMIT");
    return result;
  } catch (error) {
    await client.query("ROLLBACK").catch(() => undefined);
    throw error;
  }
}

/** Asks for the lock again and again instead of waiting in the server: who waits there has a snapshot, and CONCURRENTLY waits for it. */
async function beginAlone(client: Client): Promise<void> {
  const endsAtMs = performance.now() + LOCK_TIMEOUT_MS;
  for (;;) {
    await client.query("BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0");
    const { rows } = await client.query<{ got: boolean }>("SELECT pg_try_advisory_xact_lock($1) AS got", [LOCK_KEY]);
    if (rows[0]?.got === true) return;
    await client.query("ROLLBACK");
    if (performance.now() > endsAtMs) throw new Error("another process has been migrating this database for ten minutes");
    await sleep(LOCK_PAUSE_MS);
  }
}

const record = (client: Client, { set, number, name, checksum, release, oldestCode }: Migration): Promise<unknown> =>
  client.query("INSERT INTO polis_migrations (set, number, name, checksum, release, oldest_code) VALUES ($1, $2, $3, $4, $5, $6)", [
    set,
    number,
    name,
    checksum,
    release,
    oldestCode,
  ]);

type IsPending = (client: Client) => Promise<boolean>;

async function applyInTransaction(client: Client, migration: Migration, isPending: IsPending, log: Log): Promise<boolean> {
  for (let tries = 1; ; tries++) {
    try {
      return await alone(client, async () => {
        if (!(await isPending(client))) return false;
        await client.query(`SET LOCAL lock_timeout = ${TABLE_LOCK_TIMEOUT_MS}`);
        await client.query(migration.sql);
        await record(client, migration);
        return true;
      });
    } catch (error) {
      // 55P03: a long transaction has a table. 40P01: we and somebody else wait for each other.
      if (!["55P03", "40P01"].includes(sqlState(error) ?? "") || tries === TABLE_LOCK_TRIES_MAX) throw failed(migration, error);
      log.warn({ set: migration.set, migration: migration.name, tries }, "a table is in use; trying again");
      await sleep(TABLE_LOCK_PAUSE_MS * (0.5 + Math.random()));
    }
  }
}

/** For CREATE INDEX CONCURRENTLY, which no transaction can hold: a second connection holds the lock meanwhile. */
async function applyAlone(client: Client, guard: Client, migration: Migration, isPending: IsPending): Promise<boolean> {
  return alone(guard, async () => {
    if (!(await isPending(guard))) return false;
    await client.query("SET statement_timeout = 0; SET lock_timeout = 0");
    try {
      for (const statement of statementsOf(migration.sql)) {
        await dropInvalidIndex(client, statement);
        await client.query(statement);
      }
    } catch (error) {
      throw failed(migration, error);
    } finally {
      await client.query("RESET statement_timeout; RESET lock_timeout").catch(() => undefined);
    }
    await record(guard, migration);
    return true;
  });
}

/** An index that an interrupted CONCURRENTLY left: it is kept up by every write, answers no query, and IF NOT EXISTS takes it for done. */
async function dropInvalidIndex(client: Client, statement: string): Promise<void> {
  const name = /^create\s+(?:unique\s+)?index\s+concurrently\s+if\s+not\s+exists\s+(\S+)/i.exec(statement)?.[1];
  if (name === undefined) return;
  const { rowCount } = await client.query("SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid", [name]);
  if (rowCount === 1) await client.query(`DROP INDEX CONCURRENTLY ${name}`);
}

const failed = ({ set, name }: Migration, cause: unknown): Error =>
  new Error(`migration ${name} of ${set} failed: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
