import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { ApplyItems } from "#platform/events/apply.ts";
import { atMost } from "#platform/events/signal.ts";
import type { Wakeups } from "#platform/events/wakeups.ts";
import { ReadGate } from "#platform/reads/read-gate.ts";
import type { TaskBroker } from "#platform/tasks/broker.ts";
import type { Schedule } from "#platform/tasks/define-schedule.ts";
import type { Task } from "#platform/tasks/define-task.ts";
import type { QueueWork } from "#platform/tasks/queue-work.ts";
import { GivenUp, type KnownTask, type TaskSurroundings, type Try } from "#platform/tasks/run-task.ts";
import { checkSchedules, ensureSchedules, startSchedules } from "#platform/tasks/schedule-clock.ts";
import { keepHouse } from "#platform/tasks/task-house.ts";
import { queuesOf, taskMeasures, workTasks } from "#platform/tasks/task-queue.ts";
import { brokerSource, tableSource } from "#platform/tasks/task-source.ts";
import { type NewTask, type TaskOptions, tasksOf } from "#platform/tasks/task-types.ts";
import type { Timings } from "#platform/tasks/timings.ts";
import { keepWorker } from "#platform/tasks/worker-lease.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";
import type { Tracer } from "#platform/telemetry/tracing.ts";

export type TaskWorkerOptions = Omit<TaskSurroundings, "reads"> & {
  readonly tasks: readonly Task[];
  /** By their names (`scheduleName`). */
  readonly schedules: ReadonlyMap<string, Schedule>;
  /** Whether the tasks of a queue are done in this process; those of the others are enqueued, and looked after, all the same. */
  readonly works: (queue: string) => boolean;
  readonly apply: ApplyItems;
  /** Without one, workers take tasks from the table alone. */
  readonly broker: TaskBroker | undefined;
  readonly logger: Log;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
  readonly timings: Timings;
  readonly wakeups: Wakeups;
};

export type TaskWorker = {
  /** Told after the commit that has enqueued them. */
  enqueued(tasks: readonly NewTask[]): void;
  /** Takes no more; what takes too long to end is given back, and begins anew elsewhere. */
  stop(): Promise<void>;
};

/** Fewer than the connections of a service. */
const READS_AT_ONCE = 2;

/**
 * Does a service's tasks in this process, beside others that do the same. Throws, and has begun nothing then, where a contract or a
 * schedule is at fault, or the database or the broker refuses what they need.
 */
export async function startTaskWorker(options: TaskWorkerOptions): Promise<TaskWorker> {
  const { service, database, schedules, timings, logger, metrics, wakeups, broker, clock } = options;
  const types = tasksOf(
    options.tasks.map(({ schema }) => schema),
    service,
  );
  checkSchedules({ service, schedules, types, clock, logger });
  const known = options.tasks.map((task): KnownTask => ({ task, options: types.get(task.schema.typeName) as TaskOptions }));
  const taskQueues = queuesOf(known);
  await broker?.ensureQueues(taskQueues.map(({ queue }) => queue));
  await ensureSchedules(database, schedules, new Date(clock()));

  const measures = taskMeasures(metrics);
  const hurrying = new AbortController();
  const tries = new Map<string, Try>();
  const surroundings: TaskSurroundings = { ...options, reads: new ReadGate(READS_AT_ONCE, Number.POSITIVE_INFINITY) };
  const works = new Map<string, QueueWork>();
  const wakeAll = (): void => {
    for (const work of works.values()) work.wake();
  };
  const lease = keepWorker({ database, timings, logger, entered: wakeAll, tries });

  for (const tasks of taskQueues.filter(({ queue: { name } }) => options.works(name))) {
    const { queue } = tasks;
    const work = workTasks({
      tasks,
      surroundings,
      apply: options.apply,
      worker: () => lease.worker,
      source: (atOnce, wake) =>
        broker === undefined ? tableSource(database, queue) : brokerSource({ database, queue, broker, timings, logger, atOnce, wake }),
      tries,
      timings,
      logger,
      tracer: options.tracer,
      measures,
      hurrying: hurrying.signal,
    });
    wakeups.on(subjectOf(service, queue.name), () => work.wake());
    works.set(queue.name, work);
  }

  const stopping = new AbortController();
  const house = keepHouse({ service, database, timings, logger, metrics, types, tries, wake: wakeAll, stopping: stopping.signal });

  const enqueued = (tasks: readonly NewTask[]): void => {
    const offers: NewTask[] = [];
    for (const task of tasks) {
      const work = works.get(task.queue);
      if (task.runAt !== undefined) work?.wake(timestampMs(task.runAt));
      else if (broker !== undefined && task.concurrencyKey === undefined) offers.push(task);
      else {
        work?.wake();
        wakeups.notify(subjectOf(service, task.queue));
      }
    }
    broker?.offer(offers);
  };
  const clockwork = startSchedules({ ...options, types, offersTasks: broker !== undefined, enqueued });

  return {
    enqueued,
    async stop() {
      await clockwork.stop();
      const stopped = Promise.all([...works.values()].map((work) => work.stop()));
      await atMost(timings.taskPartingMs, stopped);
      for (const tried of tries.values()) tried.giveUp(new GivenUp("the process stops"));
      hurrying.abort();
      await stopped;
      stopping.abort();
      await house;
      await lease.leave();
    },
  };
}

const subjectOf = (service: string, queue: string): string => `tasks ${service} ${queue}`;
