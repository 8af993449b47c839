import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ClientConfig } from "pg";
import { pino } from "pino";
import type { TestProject } from "vitest/node";
import { connectionOf } from "#platform/postgres/connection-url.testing.ts";
import { startEmbeddedPostgres } from "#platform/postgres/embedded.ts";
import { isRunning } from "#platform/postgres/is-running.ts";
import type { Log } from "#platform/telemetry/log.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** A connection to the database `postgres` of the run's server; undefined where this file isn't in `globalSetup`. */
    postgres: ClientConfig;
  }
}

const FOLDER = /^polis-test-(\d+)-/;

/**
 * Vitest's global setup: one server a run, without a disk to wait for, gone at the end; or the one that POSTGRES_URL names, and
 * around its pooler where POSTGRES_DIRECT_URL does.
 */
export async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const { POSTGRES_URL, POSTGRES_DIRECT_URL = POSTGRES_URL } = process.env;
  if (POSTGRES_DIRECT_URL !== undefined) {
    project.provide("postgres", connectionOf(POSTGRES_DIRECT_URL));
    return undefined;
  }
  const log = pino({ level: "warn" }) as unknown as Log;
  await sweep(log);
  const folder = await mkdtemp(join(tmpdir(), `polis-test-${process.pid}-`));
  // Every worker has pools of its own.
  const postgres = await startEmbeddedPostgres({ folder, log, durable: false, settings: { max_connections: "300", autovacuum: "off" } });
  project.provide("postgres", postgres.connection("postgres"));
  return async () => {
    await postgres.stop();
    await rm(folder, { recursive: true, force: true });
  };
}

/** Ends the servers of runs that were killed: a server outlives its Polis, as it should elsewhere. */
async function sweep(log: Log): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = Number(FOLDER.exec(name)?.[1]);
    if (Number.isNaN(pid) || isRunning(pid)) continue;
    const folder = join(tmpdir(), name);
    try {
      if (existsSync(join(folder, "postgres", "postmaster.pid")))
        await (await startEmbeddedPostgres({ folder, log, durable: false })).stop();
      await rm(folder, { recursive: true, force: true });
    } catch (error) {
      // Another run sweeps as well, or it is another user's.
      log.debug({ err: error, folder }, "a killed run's server is left as it is");
    }
  }
}
