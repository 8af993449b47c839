import { setTimeout as sleep } from "node:timers/promises";
import type { Client, ClientConfig } from "pg";
import {
  assertCluster,
  type Cluster,
  clusterConnection,
  logTail,
  openCluster,
  spawnServer,
  stopServer,
} from "#platform/postgres/cluster.ts";
import { sqlState } from "#platform/postgres/errors.ts";
import { serverSettings } from "#platform/postgres/server-settings.ts";
import { openSession } from "#platform/postgres/session.ts";
import type { Log } from "#platform/telemetry/log.ts";

export type EmbeddedPostgres = {
  /** PGDATA: what a backup copies. */
  readonly dataFolder: string;
  connection(database: string): ClientConfig;
  /** Fast shutdown; resolves when the server is down. */
  stop(): Promise<void>;
};

export type EmbeddedPostgresOptions = {
  /** Polis's data folder; the cluster is made in it. */
  readonly folder: string;
  readonly log: Log;
  /** False gives up every promise about a crash, for speed: tests only. */
  readonly durable?: boolean;
  /** More settings of the server. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Another Polis has taken the folder over while the server was down: nothing may be written any more. */
  readonly onLost?: (error: Error) => void;
};

/** The key of the advisory lock by which one Polis holds the server. */
const LOCK_KEY = 7_204_071_985;
/** A Polis that was killed a moment ago may still hold the lock. */
const LOCK_PATIENCE_MS = 1_500;
const LOCK_PAUSE_MS = 50;
const CONNECT_PAUSE_MS = 15;
/** Recovery after a crash reads the log since the last checkpoint. */
const START_TIMEOUT_MS = 300_000;
const START_FAILURES_MAX = 5;
const RESTART_PAUSE_MIN_MS = 50;
const RESTART_PAUSE_MAX_MS = 2_000;

/**
 * Starts the PostgreSQL that npm brought along on a data folder, or takes over the one that runs there since a Polis was killed;
 * from then on watches it, and starts it again when it ends.
 * @throws when another Polis runs on the folder, or the server doesn't come up.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const cluster = await openCluster(options.folder);
  const superuser = await clusterConnection(cluster);
  const settings = { ...serverSettings(options.durable ?? true), ...options.settings };
  const connection = (database: string): ClientConfig => ({ ...superuser, database });
  // What it means that it ended is decided by `watch`.
  const connectKeeper = (): Promise<Client> => openSession({ ...connection("postgres"), application_name: `polis ${process.pid}` });

  let isStopping = false;
  let keeper = await raise(cluster, settings, connectKeeper, START_FAILURES_MAX, () => isStopping);
  await lockOrEnd(keeper, cluster);

  async function watch(): Promise<void> {
    while (!isStopping) {
      await ended(keeper);
      if (isStopping) return;
      options.log.error({ folder: cluster.folder }, "PostgreSQL ended; starting it again");
      try {
        keeper = await raise(cluster, settings, connectKeeper, Number.POSITIVE_INFINITY, () => isStopping);
        await lockOrEnd(keeper, cluster);
        options.log.info({ folder: cluster.folder }, "PostgreSQL is back");
      } catch (error) {
        if (isStopping) return;
        if (error instanceof FolderTaken) {
          isStopping = true;
          options.onLost?.(error);
          return;
        }
        options.log.error({ err: error }, "PostgreSQL didn't come back; trying again");
        await sleep(RESTART_PAUSE_MAX_MS);
      }
    }
  }
  const watching = watch();

  return {
    dataFolder: cluster.data,
    connection,
    stop: async () => {
      if (isStopping) return watching;
      isStopping = true;
      await stopServer(cluster);
      await keeper.end().catch(() => undefined);
      await watching;
      // The watch may have been starting it again when it was told to stop.
      await stopServer(cluster);
    },
  };
}

/**
 * The server of a data folder that another process runs, for a look or a backup beside it. It is neither started nor watched.
 * @throws when the folder holds no database, and what `isConnectionLost` knows, at the first connection, when it doesn't run.
 */
export async function attachEmbeddedPostgres(folder: string): Promise<Pick<EmbeddedPostgres, "connection" | "dataFolder">> {
  assertCluster(folder);
  const cluster = await openCluster(folder);
  const superuser = await clusterConnection(cluster);
  return { dataFolder: cluster.data, connection: (database) => ({ ...superuser, database }) };
}

/** Another Polis has the server of this folder. */
export class FolderTaken extends Error {
  override readonly name = "FolderTaken";
}

/** Brings the server up, if it isn't, and returns a connection to it. */
async function raise(
  cluster: Cluster,
  settings: Record<string, string>,
  connect: () => Promise<Client>,
  failuresMax: number,
  isStopping: () => boolean,
): Promise<Client> {
  const endsAtMs = performance.now() + START_TIMEOUT_MS;
  let server: { readonly exit: Promise<number | null> } | undefined;
  let failures = 0;
  while (performance.now() < endsAtMs && !isStopping()) {
    try {
      return await connect();
    } catch (error) {
      const state = sqlState(error);
      // 57P03: it is starting, recovering or stopping. Anything else that it says won't get better.
      if (state !== undefined && state !== "57P03" && !state.startsWith("53")) throw error;
    }
    if (server === undefined) {
      server = await spawnServer(cluster, settings);
      continue;
    }
    const exited = await Promise.race([server.exit.then(() => true), sleep(CONNECT_PAUSE_MS, false)]);
    if (!exited) continue;
    // Another may be starting it at the same time, or killed backends of its forerunner hold its memory for a moment.
    server = undefined;
    failures += 1;
    if (failures >= failuresMax) break;
    await sleep(Math.min(RESTART_PAUSE_MIN_MS * 2 ** failures, RESTART_PAUSE_MAX_MS));
  }
  throw new Error(`PostgreSQL doesn't come up in ${cluster.data}; the end of ${cluster.log}:\n${await logTail(cluster)}`);
}

/** The lock belongs to the session, so it goes with the process that holds it, however that ends. */
async function lockOrEnd(keeper: Client, { folder }: Cluster): Promise<void> {
  const endsAtMs = performance.now() + LOCK_PATIENCE_MS;
  for (;;) {
    const { rows } = await keeper.query<{ got: boolean }>("SELECT pg_try_advisory_lock($1) AS got", [LOCK_KEY]);
    if (rows[0]?.got === true) return;
    if (performance.now() > endsAtMs) break;
    await sleep(LOCK_PAUSE_MS);
  }
  const { rows } = await keeper.query<{ name: string }>(
    "SELECT application_name AS name FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32 | objid::bigint) = $1",
    [LOCK_KEY],
  );
  await keeper.end();
  throw new FolderTaken(
    `Another Polis (${rows[0]?.name ?? "unknown"}) runs on ${folder}. Stop it, or give this one a folder of its own by POLIS_DATA.`,
  );
}

const ended = (client: Client): Promise<void> =>
  new Promise((resolve) => {
    // `_ended` as well: it may have ended before anybody listened.
    if ((client as unknown as { _ended: boolean })._ended) resolve();
    else client.once("end", () => resolve());
  });
