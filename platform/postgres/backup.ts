import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, rmdir } from "node:fs/promises";
import { dirname, join, relative, resolve, sep } from "node:path";
import type { Client } from "pg";
import { embeddedVersion } from "#platform/postgres/binaries.ts";
import { assertCluster } from "#platform/postgres/cluster.ts";
import { type CopiedFile, copyFile, copyFiles, syncFolder, syncFolders, writeDurably } from "#platform/postgres/copy-files.ts";
import { makeDataFolder } from "#platform/postgres/data-folder.ts";
import { attachEmbeddedPostgres, type EmbeddedPostgres, FolderTaken, startEmbeddedPostgres } from "#platform/postgres/embedded.ts";
import { openSession } from "#platform/postgres/session.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** What a backup says of itself. Written last: without it, a backup isn't one. */
export type BackupManifest = {
  readonly format: 1;
  readonly what: "Polis: all databases of the embedded PostgreSQL, at one position";
  readonly finishedAt: string;
  readonly postgresVersion: string;
  readonly systemId: string;
  readonly startLsn: string;
  /** The restored databases are as they were here, or a moment later. */
  readonly stopLsn: string;
  /** Of the cluster, empty ones too: the server wants them all. */
  readonly folders: readonly string[];
  readonly files: readonly CopiedFile[];
};

const MANIFEST = "backup.json";
const FORMAT = 1;
const POSTGRES = "postgres";
const PG_CONTROL = join("global", "pg_control");

/** Folders whose content belongs to the running server alone (PostgreSQL's manual, "Making a Base Backup Using the Low Level API"). */
const EMPTIED = ["pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"];
const LEFT_OUT =
  /^(postmaster\.(pid|opts)|backup_label(\.old)?|tablespace_map(\.old)?|backup_manifest|current_logfiles.*|postgresql\.auto\.conf\.tmp|pg_internal\.init.*|pgsql_tmp.*)$/;
const WAL_FILE = /^[0-9A-F]{24}$/;
const TIMELINE_FILE = /^[0-9A-F]{8}\.history$/;

/**
 * Backs up all databases of a data folder, and its secret, into the folder `target`, which it makes. Polis may run on it and
 * write meanwhile, or not run. Physical: dumps taken one after the other would tear an order from its debit.
 * @throws when `target` exists already, or the server goes away meanwhile; nothing is left behind then.
 */
export async function backup(options: { readonly folder: string; readonly target: string; readonly log: Log }): Promise<BackupManifest> {
  const target = resolve(options.target);
  if (existsSync(target)) throw new Error(`${target} is there already`);
  const { postgres, leave } = await reach(options.folder, options.log);
  const making = `${target}.partial-${randomBytes(4).toString("hex")}`;
  try {
    await mkdir(join(making, POSTGRES), { recursive: true, mode: 0o700 });
    const cluster = await backUpCluster(postgres, join(making, POSTGRES));
    const secret = await copyFile(join(options.folder, "secret"), join(making, "secret"));
    const files = [
      ...cluster.files.map((file) => ({ ...file, path: slashed(join(POSTGRES, file.path)) })),
      ...(secret === undefined ? [] : [{ path: "secret", ...secret }]),
    ];
    const manifest: BackupManifest = {
      format: FORMAT,
      what: "Polis: all databases of the embedded PostgreSQL, at one position",
      finishedAt: new Date().toISOString(),
      ...cluster,
      files,
    };
    await syncFolders(making);
    await writeDurably(join(making, MANIFEST), `${JSON.stringify(manifest, undefined, 1)}\n`);
    await syncFolder(making);
    await rename(making, target);
    await syncFolder(dirname(target));
    return manifest;
  } catch (error) {
    await rm(making, { recursive: true, force: true });
    throw error;
  } finally {
    await leave();
  }
}

type Reached = { readonly postgres: Pick<EmbeddedPostgres, "connection" | "dataFolder">; readonly leave: () => Promise<void> };

/** The server that a Polis runs, or else one that runs for the backup alone. */
async function reach(folder: string, log: Log): Promise<Reached> {
  assertCluster(folder);
  try {
    const postgres = await startEmbeddedPostgres({ folder, log });
    return { postgres, leave: () => postgres.stop() };
  } catch (error) {
    if (!(error instanceof FolderTaken)) throw error;
    return { postgres: await attachEmbeddedPostgres(folder), leave: async () => {} };
  }
}

type ClusterBackup = Pick<BackupManifest, "postgresVersion" | "systemId" | "startLsn" | "stopLsn" | "folders" | "files">;

async function backUpCluster({ connection, dataFolder }: Reached["postgres"], target: string): Promise<ClusterBackup> {
  // Backup mode and the slot end with this session, however it ends.
  const client = await openSession({ ...connection("postgres"), application_name: "polis backup" });
  try {
    const about = await one<{ postgresVersion: string; systemId: string }>(
      client,
      `SELECT current_setting('server_version') AS "postgresVersion", system_identifier::text AS "systemId" FROM pg_control_system()`,
    );
    // The slot keeps the log from here on from being recycled.
    await client.query("SELECT pg_create_physical_replication_slot($1, true, true)", [`polis_backup_${randomBytes(8).toString("hex")}`]);
    const start = await one<{ lsn: string; file: string }>(
      client,
      "SELECT lsn, pg_walfile_name(lsn) AS file FROM pg_backup_start('polis', true) AS lsn",
    );
    const content = await contentOf(dataFolder);
    const files = await copyFiles(content.files, dataFolder, target);
    files.push({ path: PG_CONTROL, ...(await copyControl(dataFolder, target)) });
    const stop = await one<{ lsn: string; file: string; labelfile: string }>(
      client,
      "SELECT lsn, pg_walfile_name(lsn) AS file, labelfile FROM pg_backup_stop(false)",
    );
    files.push({ path: "backup_label", ...(await writeDurably(join(target, "backup_label"), stop.labelfile)) });
    files.push(...(await copyWal(dataFolder, target, start.file, stop.file)));
    return { ...about, startLsn: start.lsn, stopLsn: stop.lsn, folders: content.folders, files };
  } finally {
    await client.end();
  }
}

async function one<R extends object>(client: Client, sql: string): Promise<R> {
  const { rows } = await client.query<R>(sql);
  return rows[0] as R;
}

/** The folders of PGDATA, and all files that belong into a backup, but pg_control. */
async function contentOf(data: string): Promise<{ folders: string[]; files: string[] }> {
  const tablespaces = await readdir(join(data, "pg_tblspc"));
  if (tablespaces.length > 0) throw new Error(`${data} has tablespaces, which this backup doesn't know`);
  const entries = (await readdir(data, { recursive: true, withFileTypes: true })).map((entry) => ({
    entry,
    path: relative(data, join(entry.parentPath, entry.name)),
  }));
  const isOfTheServer = (path: string): boolean => EMPTIED.includes(path.split(sep)[0] ?? "");
  return {
    // pg_wal has folders of its own; those of the others come and go.
    folders: entries
      .filter(
        ({ entry, path }) =>
          entry.isDirectory() && !LEFT_OUT.test(entry.name) && (!isOfTheServer(path) || !path.includes(sep) || path.startsWith("pg_wal")),
      )
      .map(({ path }) => slashed(path)),
    files: entries
      .filter(({ entry, path }) => entry.isFile() && !LEFT_OUT.test(entry.name) && !isOfTheServer(path) && path !== PG_CONTROL)
      .map(({ path }) => path),
  };
}

/** Last of the files, as pg_basebackup does. The server writes it in place: read until two readings agree. */
async function copyControl(data: string, target: string): Promise<Pick<CopiedFile, "bytes" | "sha256">> {
  for (;;) {
    const before = await readFile(join(data, PG_CONTROL));
    const copied = await copyFile(join(data, PG_CONTROL), join(target, PG_CONTROL));
    const after = await readFile(join(target, PG_CONTROL));
    if (copied !== undefined && before.equals(after)) return copied;
    await rm(join(target, PG_CONTROL));
  }
}

/** The log from the start of the backup to its end; without it the copied files are of no one moment. */
async function copyWal(data: string, target: string, first: string, last: string): Promise<CopiedFile[]> {
  const names = (await readdir(join(data, "pg_wal"))).filter(
    (name) => TIMELINE_FILE.test(name) || (WAL_FILE.test(name) && name >= first && name <= last),
  );
  for (const end of [first, last]) if (!names.includes(end)) throw new Error(`the log ${end} is gone from ${data}`);
  return copyFiles(
    names.map((name) => join("pg_wal", name)),
    data,
    target,
  );
}

const slashed = (path: string): string => path.split(sep).join("/");

/**
 * Makes a data folder from a backup; the next start on it recovers. `folder` is made, or is empty, and so it is left where this
 * fails.
 * @throws when it isn't empty, or the backup is incomplete, damaged, or of another major version of PostgreSQL.
 */
export async function restore(options: { readonly source: string; readonly folder: string }): Promise<BackupManifest> {
  const { source, folder } = options;
  const manifest = await readManifest(source);
  const made = await makeDataFolder(resolve(folder));
  if ((await readdir(folder)).length > 0) throw new Error(`${folder} isn't empty`);
  try {
    await fill(folder, source, manifest);
  } catch (error) {
    if (made !== undefined) await removeEmpty(folder, made);
    throw error;
  }
  return manifest;
}

/** Checks what it copies beside its place, and puts it there when all of it is good. */
async function fill(folder: string, source: string, manifest: BackupManifest): Promise<void> {
  const making = join(folder, `restoring-${randomBytes(4).toString("hex")}`);
  try {
    await mkdir(join(making, POSTGRES), { recursive: true, mode: 0o700 });
    const copied = new Map(
      (
        await copyFiles(
          manifest.files.map(({ path }) => path),
          source,
          making,
        )
      ).map((file) => [file.path, file]),
    );
    for (const { path, sha256 } of manifest.files) {
      const file = copied.get(path);
      if (file === undefined) throw new Error(`the backup ${source} is incomplete: ${path} is missing`);
      if (file.sha256 !== sha256) throw new Error(`the backup ${source} is damaged: ${path} isn't what was written`);
    }
    for (const path of manifest.folders) await mkdir(join(making, POSTGRES, path), { recursive: true, mode: 0o700 });
    await syncFolders(making);
    if (copied.has("secret")) await rename(join(making, "secret"), join(folder, "secret"));
    await rename(join(making, POSTGRES), join(folder, POSTGRES));
    await syncFolder(folder);
  } finally {
    await rm(making, { recursive: true, force: true });
  }
}

/** Removes the folder `inner`, and those above it up to `outer`, as far as they are empty: what somebody else put there stays. */
async function removeEmpty(inner: string, outer: string): Promise<void> {
  let folder = resolve(inner);
  do {
    if ((await readdir(folder)).length > 0) return;
    await rmdir(folder);
    folder = dirname(folder);
  } while (folder !== dirname(resolve(outer)));
}

async function readManifest(source: string): Promise<BackupManifest> {
  let manifest: BackupManifest;
  try {
    manifest = JSON.parse(await readFile(join(source, MANIFEST), "utf8")) as BackupManifest;
  } catch (cause) {
    throw new Error(`${source} is no complete backup: it has no readable ${MANIFEST}`, { cause });
  }
  if (manifest.format !== FORMAT) throw new Error(`${source} is a backup of format ${String(manifest.format)}; this Polis reads ${FORMAT}`);
  const [theirs, ours] = [manifest.postgresVersion, embeddedVersion()].map((version) => Number.parseInt(version, 10));
  if (theirs !== ours)
    throw new Error(`${source} is of PostgreSQL ${theirs}, and this Polis brings ${ours}: restore it with the Polis that made it`);
  return manifest;
}
