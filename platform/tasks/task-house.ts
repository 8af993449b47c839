import { pause } from "#platform/events/signal.ts";
import type { Database } from "#platform/postgres/database.ts";
import { queueDepths, refileTasks, takeFromLost } from "#platform/tasks/claims.ts";
import type { Try } from "#platform/tasks/run-task.ts";
import { writeProgress } from "#platform/tasks/task-statements.ts";
import type { TaskOptions } from "#platform/tasks/task-types.ts";
import type { Timings } from "#platform/tasks/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

const STATES = ["WAITING", "DELAYED", "BLOCKED", "RUNNING", "FAILED"];

/** Takes tasks from workers who are gone, files wrongly filed ones, writes progress down and counts, now and then, until it is to stop. */
export async function keepHouse(options: {
  readonly service: string;
  readonly database: Database;
  readonly timings: Timings;
  readonly logger: Log;
  readonly metrics: Metrics;
  readonly types: ReadonlyMap<string, TaskOptions>;
  /** What runs here, by claim. */
  readonly tries: ReadonlyMap<string, Try>;
  /** There may be something to do in each queue. */
  readonly wake: () => void;
  readonly stopping: AbortSignal;
}): Promise<void> {
  const { service, database, timings, logger, metrics, types, tries, wake, stopping } = options;
  const depths = metrics.gauge("polis_tasks", "Tasks that have not ended, or failed", ["service", "queue", "state"]);
  const ages = metrics.gauge("polis_task_age_seconds", "How long the task that has waited longest has been due", ["service", "queue"]);
  const attemptsMax = new Map([...types].map(([type, { attempts }]) => [type, attempts]));
  const ownQueues = [...types.values()].map(({ queue }) => queue);
  const written = new Map<string, number>();

  const tellProgress = async (): Promise<void> => {
    for (const claim of written.keys()) if (!tries.has(claim)) written.delete(claim);
    const news = [...tries.values()].flatMap(({ claimed: { id, claim }, progress }) =>
      progress === undefined || progress === written.get(claim) ? [] : [{ id, claim, progress }],
    );
    if (news.length === 0) return;
    for (const { claim, progress } of news) written.set(claim, progress);
    await database.query(writeProgress(news));
  };
  const count = async (): Promise<void> => {
    const found = await queueDepths(database);
    for (const queue of new Set([...ownQueues, ...found.map((depth) => depth.queue)])) {
      const of = new Map(found.filter((depth) => depth.queue === queue).map((depth) => [depth.state, depth]));
      for (const state of STATES) depths.set({ service, queue, state: state.toLowerCase() }, of.get(state)?.tasks ?? 0);
      ages.set({ service, queue }, of.get("WAITING")?.age ?? 0);
    }
  };
  const sweep = async (): Promise<void> => {
    const taken = await takeFromLost(database, attemptsMax);
    if (taken === 0) return;
    logger.warn({ tasks: taken }, "tasks were taken from a worker that is gone");
    wake();
  };
  const every = async (ms: number, act: () => Promise<void>): Promise<void> => {
    while (!stopping.aborted) {
      await act().catch((error: unknown) => logger.debug({ err: error }, "tasks weren't looked after"));
      await pause(ms, stopping);
    }
  };
  await Promise.all([
    every(timings.progressEveryMs, tellProgress),
    every(timings.taskCountMs, count),
    every(timings.workerHeartbeatMs, sweep),
    every(timings.refileEveryMs, () => refileTasks(database, types, timings.refileAfterMs)),
  ]);
}
