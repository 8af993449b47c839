import { pause } from "#platform/events/signal.ts";
import type { Database } from "#platform/postgres/database.ts";
import { enterWorker, giveBack, leaveWorker, renewWorker } from "#platform/tasks/claims.ts";
import { GivenUp, type Try, type Worker } from "#platform/tasks/run-task.ts";
import type { TaskTimings } from "#platform/tasks/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";

export type WorkerLease = {
  /** Who runs tasks here now; undefined while the database is away at the start. */
  readonly worker: Worker | undefined;
  /** Gives back what is held, and ends. */
  leave(): Promise<void>;
};

/** Keeps a worker in task_workers, and what it holds there the same as what it holds here. */
export function keepWorker(options: {
  readonly database: Database;
  readonly timings: TaskTimings;
  readonly logger: Log;
  readonly entered: () => void;
  /** What this process believes to hold, by claim: from the answer to the claim until the end is written. */
  readonly tries: ReadonlyMap<string, Try>;
}): WorkerLease {
  const { database, timings, logger, entered, tries } = options;
  const leaving = new AbortController();
  let unknown: ReadonlySet<string> = new Set();
  let current: { readonly worker: Worker; readonly lose: () => void } | undefined;

  const enter = async (): Promise<void> => {
    const id = crypto.randomUUID();
    const loss = new AbortController();
    await enterWorker(database, id, timings.workerLeaseMs);
    current = { worker: { id, lost: loss.signal }, lose: () => loss.abort(new Error("the worker's lease has ended")) };
    entered();
  };

  const beat = async (): Promise<void> => {
    if (current === undefined) return enter();
    const { worker, lose } = current;
    // Before the question: what is claimed while it is on its way isn't in the answer.
    const believed = [...tries.values()].filter((tried) => tried.worker === worker);
    const held = await renewWorker(database, worker.id, timings.workerLeaseMs);
    if (held !== undefined) {
      for (const tried of believed) if (!held.has(tried.claimed.claim)) tried.giveUp(new GivenUp("the task was cancelled"));
      return giveBackUnknown(worker, held);
    }
    logger.warn("this process was taken for dead: its tasks are given to others");
    current = undefined;
    lose();
    return enter();
  };

  /** What a claim took whose answer was lost: seen twice, for its answer may be on its way. */
  const giveBackUnknown = async (worker: Worker, held: ReadonlySet<string>): Promise<void> => {
    const before = unknown;
    unknown = new Set([...held].filter((claim) => !tries.has(claim)));
    const lost = [...unknown].filter((claim) => before.has(claim));
    if (lost.length === 0) return;
    logger.warn({ tasks: lost.length }, "tasks whose claim was never answered are given back");
    await giveBack(database, worker.id, lost);
  };

  const run = async (): Promise<void> => {
    while (!leaving.signal.aborted) {
      await beat().catch((error: unknown) => logger.debug({ err: error }, "the worker's lease wasn't renewed"));
      await pause(current === undefined ? timings.workerHeartbeatMs / 10 : timings.workerHeartbeatMs, leaving.signal);
    }
  };
  const running = run();

  return {
    get worker() {
      return current?.worker;
    },
    async leave() {
      leaving.abort();
      await running;
      if (current === undefined) return;
      const { worker, lose } = current;
      current = undefined;
      lose();
      await leaveWorker(database, worker.id).catch((error: unknown) =>
        logger.debug({ err: error }, "tasks are given back when the lease ends"),
      );
    },
  };
}
