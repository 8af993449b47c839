import { pause } from "#platform/events/signal.ts";
import type { Database } from "#platform/postgres/database.ts";
import { enterWorker, leaveWorker, renewWorker } from "#platform/tasks/claims.ts";
import type { TaskTimings } from "#platform/tasks/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** Who runs tasks, for as long as its lease lasts; one that has lost it begins anew under another id. */
export type Worker = {
  readonly id: string;
  /** Fires when its tasks are others' by now. */
  readonly lost: AbortSignal;
};

export type WorkerLease = {
  /** Who runs tasks here now; undefined while the database is away at the start. */
  readonly worker: Worker | undefined;
  /** Gives back what is held, and ends. */
  leave(): Promise<void>;
};

/** Keeps a worker in task_workers. `held` is told which tasks it still has, at every heartbeat. */
export function keepWorker(options: {
  readonly database: Database;
  readonly timings: TaskTimings;
  readonly logger: Log;
  readonly entered: () => void;
  readonly held: (worker: Worker, ids: ReadonlySet<string>) => void;
}): WorkerLease {
  const { database, timings, logger, entered, held } = options;
  const leaving = new AbortController();
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
    const ids = await renewWorker(database, worker.id, timings.workerLeaseMs);
    if (ids !== undefined) return held(worker, ids);
    logger.warn("this process was taken for dead: its tasks are given to others");
    current = undefined;
    lose();
    return enter();
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
