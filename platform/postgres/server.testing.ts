import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ClientConfig } from "pg";
import { pino } from "pino";
import type { TestProject } from "vitest/node";
import { connectionOf } from "#platform/postgres/connection-url.testing.ts";
import { startEmbeddedPostgres } from "#platform/postgres/embedded.ts";
import { endLeftServers } from "#platform/postgres/left-servers.testing.ts";
import type { Log } from "#platform/telemetry/log.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** A connection to the database `postgres` of the run's server; undefined where this file isn't in `globalSetup`. */
    postgres: ClientConfig;
  }
}

const FOLDER = "polis-test-";

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
  await endLeftServers(FOLDER, log);
  const folder = await mkdtemp(join(tmpdir(), `${FOLDER}${process.pid}-`));
  // Every worker has pools of its own.
  const postgres = await startEmbeddedPostgres({ folder, log, durable: false, settings: { max_connections: "300", autovacuum: "off" } });
  project.provide("postgres", postgres.connection("postgres"));
  return async () => {
    await postgres.stop();
    await rm(folder, { recursive: true, force: true });
  };
}
