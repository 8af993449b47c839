import { spawnSync } from "node:child_process";
import { cpSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { ClientConfig } from "pg";
import { Pool } from "pg";

/** What of graphile-worker is used here. */
type GraphileWorker = {
  run(options: {
    pgPool: Pool;
    taskList: Record<string, (payload: unknown, helpers: Helpers) => Promise<void>>;
    concurrency: number;
    noHandleSignals: boolean;
    preset: object;
    logger: unknown;
  }): Promise<{ stop(): Promise<void> }>;
  runMigrations(options: { pgPool: Pool; logger: unknown }): Promise<void>;
  Logger: new (factory: () => () => void) => unknown;
};
type Helpers = { withPgClient<T>(run: (client: { query(text: string, values: unknown[]): Promise<T> }) => Promise<T>): Promise<T> };

const folder = join(import.meta.dirname, "..", "..", ".cache", "graphile-worker");

/** Installed from the registry when it is first asked for: nobody but this bench needs it. */
function install(): Promise<GraphileWorker> {
  cpSync(join(import.meta.dirname, "..", "graphile-worker"), folder, { recursive: true });
  const { status } = spawnSync("npm", ["ci", "--prefer-offline", "--silent"], { cwd: folder, stdio: "inherit" });
  if (status !== 0) throw new Error("graphile-worker can't be installed");
  return import(pathToFileURL(createRequire(join(folder, "package.json")).resolve("graphile-worker")).href);
}

export type Graphile = {
  /** Puts jobs into the queue, all in one transaction. */
  enqueue(ids: readonly string[]): Promise<void>;
  /** Works until the answer is called. */
  work(started: (id: string) => void): Promise<() => Promise<void>>;
};

/** graphile-worker on this database, whose task inserts its id into `effects`; as fast as its settings make it. */
export async function openGraphile(connection: ClientConfig, parts: AsyncDisposableStack): Promise<Graphile> {
  const { run, runMigrations, Logger } = await install();
  const pgPool = new Pool({ ...connection, max: 12 });
  pgPool.on("error", () => undefined).on("connect", (client) => client.on("error", () => undefined));
  parts.defer(() => pgPool.end());
  const logger = new Logger(() => () => {});
  await runMigrations({ pgPool, logger });
  return {
    async enqueue(ids) {
      await pgPool.query(
        `SELECT FROM graphile_worker.add_jobs(ARRAY(
           SELECT json_populate_record(NULL::graphile_worker.job_spec, json_build_object('identifier', 'note', 'payload', json_build_object('id', id, 'text', 'a note')))
           FROM unnest($1::text[]) id))`,
        [ids],
      );
    },
    async work(started) {
      const runner = await run({
        pgPool,
        logger,
        concurrency: 32,
        noHandleSignals: true,
        preset: { worker: { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
        taskList: {
          async note(payload, { withPgClient }) {
            const { id, text } = payload as { id: string; text: string };
            started(id);
            await withPgClient((client) => client.query("INSERT INTO effects (id, text) VALUES ($1, $2)", [id, text]));
          },
        },
      });
      return () => runner.stop();
    },
  };
}
