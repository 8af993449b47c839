import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { compareReleases, isRelease, previousMinor } from "#platform/postgres/releases.ts";

/** The migrations of one folder, recorded under `name`: a service, or a part of the platform. */
export type MigrationSet = { readonly name: string; readonly folder: string };

export type Migration = {
  readonly set: string;
  readonly number: number;
  /** The file's name: `0001-orders.sql`. */
  readonly name: string;
  readonly sql: string;
  readonly checksum: string;
  /** The release that brings it. */
  readonly release: string;
  /** The oldest release whose code runs on the database after it. */
  readonly oldestCode: string;
  /** False: its statements run one by one, each by itself. */
  readonly isTransaction: boolean;
};

const FILE = /^(\d{4})-[a-z0-9-]+\.sql$/;
const HEADER = /^-- (release|oldest-code|polis): *(\S+)$/;
const ENDS_TRANSACTION = /^\s*(begin|commit|rollback|start transaction)\s*;/im;

/** @throws Error naming the file whose name or headers are not as they must be. */
export async function readMigrations(sets: readonly MigrationSet[]): Promise<Migration[]> {
  const migrations = await Promise.all(
    sets.map(async (set) => {
      const names = (await readdir(set.folder)).filter((name) => name.endsWith(".sql")).sort();
      const ofSet = await Promise.all(
        names.map(async (name) => parseMigration(set.name, name, await readFile(join(set.folder, name), "utf8"))),
      );
      for (const [i, { name, number }] of ofSet.entries())
        if (number === ofSet[i - 1]?.number)
          throw new Error(`migrations ${ofSet[i - 1]?.name} and ${name} of ${set.name} have the same number`);
      return ofSet;
    }),
  );
  return migrations.flat();
}

function parseMigration(set: string, name: string, content: string): Migration {
  const fail = (why: string): never => {
    throw new Error(`migration ${name} of ${set}: ${why}`);
  };
  const number = Number(FILE.exec(name)?.[1] ?? fail("its name isn't NNNN-some-words.sql"));
  // A checkout on Windows may have other line ends.
  const sql = content.replaceAll("\r\n", "\n");
  const headers = new Map<string, string>();
  for (const line of sql.split("\n")) {
    if (!line.startsWith("--")) break;
    const [, key, value] = HEADER.exec(line) ?? [];
    if (key !== undefined && value !== undefined) headers.set(key, value);
  }
  const release = headers.get("release") ?? fail("a header `-- release: x.y.z` must say which release brings it");
  if (!isRelease(release)) fail(`${release} is no release`);
  const oldestCode =
    headers.get("oldest-code") ??
    previousMinor(release) ??
    fail(`a header \`-- oldest-code: x.y.z\` must say which code still runs after it, since no minor release comes before ${release}`);
  if (!isRelease(oldestCode)) fail(`${oldestCode} is no release`);
  if (compareReleases(oldestCode, release) > 0) fail(`oldest-code ${oldestCode} is newer than the release ${release} that brings it`);
  const mode = headers.get("polis");
  if (mode !== undefined && mode !== "no-transaction") fail(`\`-- polis: ${mode}\` is unknown; there is no-transaction`);
  const isTransaction = mode === undefined;
  if (isTransaction && ENDS_TRANSACTION.test(sql)) fail("it runs in a transaction already, and must neither begin nor end one");
  if (!isTransaction && /create\s+(unique\s+)?index\s+concurrently\s+(?!if\s+not\s+exists)/i.test(sql))
    fail("write CREATE INDEX CONCURRENTLY IF NOT EXISTS, so that it can be repeated");
  return { set, number, name, sql, checksum: createHash("sha256").update(sql).digest("hex"), release, oldestCode, isTransaction };
}

/** The statements of a migration that runs without a transaction: each ends with a semicolon at the end of a line. */
export const statementsOf = (sql: string): string[] =>
  sql
    .split("\n")
    .filter((line) => !line.startsWith("--"))
    .join("\n")
    .split(/;[ \t]*(?:\n|$)/)
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "");
