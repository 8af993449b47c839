import { join } from "node:path";
import { ensureDatabase } from "#platform/postgres/create-database.ts";
import type { Database } from "#platform/postgres/database.ts";
import { migrate } from "#platform/postgres/migrate.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { release } from "../../cli/release.ts";
import { benchLog } from "./log.ts";
import type { Notes } from "./notes.ts";
import { repeat } from "./repeat.ts";
import type { BenchServer } from "./server.ts";

/** A database of a service that has tasks, and the table that they write to. */
export async function openTasksDatabase(server: BenchServer, name: string, parts: AsyncDisposableStack): Promise<Database> {
  const log = benchLog();
  await ensureDatabase(server.connection("postgres"), name);
  const sets = ["writes", "outbox", "tasks"].map((part) => ({
    name: part,
    folder: join(import.meta.dirname, "..", "..", "platform", part, "migrations"),
  }));
  await migrate({ connection: server.connection(name), sets, release, log });
  const database = await openDatabase({ connection: server.connection(name), name, log, metrics: new Metrics() });
  parts.defer(() => database.close());
  await database.query({ text: "CREATE TABLE effects (id uuid PRIMARY KEY, text text NOT NULL)" });
  return database;
}

/** From the commit that enqueues one to its start, one at a time, in milliseconds. */
export async function latencies(enqueue: () => Promise<string>, work: Notes["work"]): Promise<number[]> {
  const startedAt = new Map<string, number>();
  let heard: (() => void) | undefined;
  const stop = await work((id) => {
    startedAt.set(id, performance.now());
    heard?.();
  });
  const times = await repeat(0, async () => {
    const id = await enqueue();
    const committedMs = performance.now();
    while (!startedAt.has(id))
      await new Promise<void>((resolve) => {
        heard = resolve;
      });
    return Math.max((startedAt.get(id) as number) - committedMs, 0);
  });
  await stop();
  return times;
}
