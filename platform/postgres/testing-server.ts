import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ClientConfig } from "pg";
import { pino } from "pino";
import type { TestProject } from "vitest/node";
import { startEmbeddedPostgres } from "#platform/postgres/embedded.ts";
import type { Log } from "#platform/telemetry/log.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** A connection to the database `postgres` of the run's server; undefined where this file isn't in `globalSetup`. */
    postgres: ClientConfig;
  }
}

/** Vitest's global setup: one server a run, without a disk to wait for, gone at the end. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), "polis-test-"));
  const log = pino({ level: "warn" }) as unknown as Log;
  // Every worker has pools of its own.
  const postgres = await startEmbeddedPostgres({ folder, log, durable: false, settings: { max_connections: "300", autovacuum: "off" } });
  project.provide("postgres", postgres.connection("postgres"));
  return async () => {
    await postgres.stop();
    await rm(folder, { recursive: true, force: true });
  };
}
