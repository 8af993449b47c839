import { strict as assert } from "node:assert";
import { randomUUID } from "node:crypto";
import type { Database } from "#platform/postgres/database.ts";
import { type Bench, type BenchContext, figure } from "./bench.ts";
import { openGraphile } from "./support/graphile.ts";
import { type Notes, openNotes } from "./support/notes.ts";
import { quantile } from "./support/repeat.ts";
import { alternate, median, type Round, ratioFigure } from "./support/rounds.ts";
import { type BenchServer, startServer } from "./support/server.ts";
import { latencies, openTasksDatabase } from "./support/task-figures.ts";

const ROUNDS = 3;
const TASKS = 20_000;
const TASKS_A_TRANSACTION = 500;
const MANY = 200_000;
const MANY_DONE = 40_000;

export const tasks: Bench = {
  name: "tasks",
  text: "tasks on PostgreSQL beside graphile-worker doing the same; enqueue → start; 200,000 that wait",
  async run({ parts, report }: BenchContext) {
    const server = await startServer(parts);
    const database = await openTasksDatabase(server, "tasks", parts);
    const ours = openNotes(database);
    const beside = await openTasksDatabase(server, "graphile", parts);
    const graphile = await openGraphile(server.connection("graphile"), parts);

    const found = await alternate(
      {
        ours: async () => {
          await database.query({ text: "TRUNCATE tasks, effects" });
          for (let i = 0; i < TASKS; i += TASKS_A_TRANSACTION) await ours.enqueue(TASKS_A_TRANSACTION);
          return drained(server, database, ours.work);
        },
        theirs: async () => {
          await beside.query({ text: "TRUNCATE effects" });
          for (let i = 0; i < TASKS; i += TASKS_A_TRANSACTION) await graphile.enqueue(idsOf(TASKS_A_TRANSACTION));
          return drained(server, beside, graphile.work);
        },
      },
      ROUNDS,
      server.tidy,
    );
    report(
      ratioFigure({
        name: "tasks done, each with a row that it writes",
        unit: "tasks/s",
        rounds: found.ours,
        beside: { name: "graphile-worker", rounds: found.theirs },
        goal: { of: "ratio", atLeast: 0.8 },
        note: `${TASKS} that wait; 32 at once there, in batches here, where the row is one with the task's end`,
      }),
    );
    for (const [name, enqueue, work] of [
      ["enqueue → start, p50", async () => (await ours.enqueue(1))[0] as string, ours.work],
      ["graphile-worker: enqueue → start, p50", enqueueOne(graphile.enqueue), graphile.work],
    ] as const) {
      const times = await latencies(enqueue, work);
      report(
        figure({
          name,
          value: median(times),
          unit: "ms",
          medianOf: times.length,
          note: `p90 ${quantile(times, 0.9).toFixed(1)} ms; from the commit that enqueues, one at a time`,
          ...(name.startsWith("graphile") ? {} : { goal: { of: "value", atMost: 5 } as const }),
        }),
      );
    }
    await many(server, database, ours, report);
  },
};

async function many(server: BenchServer, database: Database, ours: Notes, report: BenchContext["report"]): Promise<void> {
  await database.query({ text: "TRUNCATE tasks, effects" });
  await server.tidy();
  for (let i = 0; i < MANY; i += TASKS_A_TRANSACTION) await ours.enqueue(TASKS_A_TRANSACTION);
  globalThis.gc?.();
  const before = process.memoryUsage().rss;
  let most = before;
  const watch = setInterval(() => {
    most = Math.max(most, process.memoryUsage().rss);
  }, 20);
  const { value } = await drained(server, database, ours.work, MANY_DONE);
  clearInterval(watch);
  report(figure({ name: `tasks done of ${MANY.toLocaleString("en")} that wait`, unit: "tasks/s", value, medianOf: 1 }));
  report(
    figure({
      name: "growth of memory meanwhile",
      unit: "MiB",
      value: (most - before) / 2 ** 20,
      medianOf: 1,
      goal: { of: "value", atMost: 100 },
    }),
  );
}

const idsOf = (count: number): string[] => Array.from({ length: count }, () => randomUUID());

const enqueueOne = (enqueue: (ids: readonly string[]) => Promise<void>) => async (): Promise<string> => {
  const id = randomUUID();
  await enqueue([id]);
  return id;
};

/** From the start of the workers to the last effect. */
async function drained(server: BenchServer, database: Database, work: Notes["work"], count = TASKS): Promise<Round> {
  const cpu = () => [process.cpuUsage(), server.cpuUs() ?? Number.NaN] as const;
  const [nodeBefore, postgresBefore] = cpu();
  const startedMs = performance.now();
  let started = 0;
  const { promise: all, resolve } = Promise.withResolvers<void>();
  const stop = await work(() => {
    started += 1;
    if (started === count) resolve();
  });
  await all;
  for (;;) {
    const { rows } = await database.query<{ count: bigint }>({ text: "SELECT count(*) FROM effects" });
    if (Number(rows[0]?.count) >= count) break;
  }
  const lastedMs = performance.now() - startedMs;
  const { user, system } = process.cpuUsage(nodeBefore);
  const postgresUs = cpu()[1] - postgresBefore;
  await stop();
  assert(started >= count);
  return { value: (count / lastedMs) * 1_000, nodeUs: (user + system) / count, postgresUs: postgresUs / count };
}
