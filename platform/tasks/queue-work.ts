import { makeBell, pause } from "#platform/events/signal.ts";
import { growingPauseMs } from "#platform/events/timings.ts";
import type { ClaimedTask, Queue } from "#platform/tasks/claims.ts";
import type { Worker } from "#platform/tasks/run-task.ts";
import type { TaskSource } from "#platform/tasks/task-source.ts";
import type { Timings } from "#platform/tasks/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** Tasks of one queue in this process. */
export type QueueWork = {
  /** There may be something to do, now or at this moment (milliseconds since the epoch). */
  wake(atMs?: number): void;
  /** Takes no more; resolves when what runs has ended. */
  stop(): Promise<void>;
};

export type QueueWorkOptions = {
  readonly queue: Queue;
  /** How many run here at once. */
  readonly atOnce: number;
  /** None is taken before there is room for so many. */
  readonly takeFrom: number;
  readonly timings: Timings;
  readonly logger: Log;
  readonly worker: () => Worker | undefined;
  readonly source: (wake: () => void) => TaskSource;
  /** Does one; never rejects. */
  readonly run: (claimed: ClaimedTask, worker: Worker) => Promise<void>;
};

/** Timers and clocks of whole milliseconds ring so much before the database's: who looks then finds nothing, and again after a poll. */
const EARLY_MS = 2;

/** Takes tasks of a queue whenever there is room, and has them done. */
export function workQueue(options: QueueWorkOptions): QueueWork {
  const { queue, atOnce, takeFrom, timings, logger, run } = options;
  const bell = makeBell();
  const stopping = new AbortController();
  const running = new Set<Promise<void>>();
  let alarm: { readonly atMs: number; readonly timer: NodeJS.Timeout } | undefined;
  let isFull = false;
  const source = options.source(bell.ring);

  const start = (claimed: ClaimedTask, worker: Worker): void => {
    const one = run(claimed, worker).finally(() => {
      running.delete(one);
      // The next may have waited for room, here or in the queue as a whole.
      if ((isFull && atOnce - running.size >= takeFrom) || queue.concurrency !== undefined) bell.ring();
    });
    running.add(one);
  };

  /** Whether there may be more to take at once. */
  const takeSome = async (): Promise<boolean> => {
    const room = atOnce - running.size;
    const worker = options.worker();
    isFull = room < takeFrom;
    if (worker === undefined || isFull) return false;
    const { tasks, isMore } = await source.take(worker.id, room);
    // Nobody would give them up: they go back with the worker's lease.
    if (stopping.signal.aborted) return false;
    for (const one of tasks) start(one, worker);
    return isMore;
  };

  const loop = async (): Promise<void> => {
    for (let failures = 0; !stopping.signal.aborted; ) {
      try {
        if (!(await takeSome())) await bell.wait(timings.taskPollMs);
        failures = 0;
      } catch (error) {
        failures += 1;
        logger.warn({ err: error, failures, queue: queue.name }, "tasks wait for their database");
        await pause(growingPauseMs(failures, timings), stopping.signal);
      }
    }
  };
  const looping = loop();

  return {
    wake(atMs) {
      if (stopping.signal.aborted) return;
      if (atMs === undefined) return bell.ring();
      if (alarm !== undefined && alarm.atMs <= atMs) return;
      clearTimeout(alarm?.timer);
      const ring = (): void => {
        alarm = undefined;
        bell.ring();
      };
      const inMs = Math.ceil(Math.max(atMs - Date.now(), 0)) + EARLY_MS;
      // What lies further ahead, the poll finds.
      alarm = { atMs, timer: setTimeout(ring, Math.min(inMs, timings.taskPollMs)) };
    },
    async stop() {
      stopping.abort();
      clearTimeout(alarm?.timer);
      bell.ring();
      await looping;
      await source.stop();
      await Promise.all(running);
    },
  };
}
