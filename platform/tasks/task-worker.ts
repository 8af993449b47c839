import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { ApplyItems } from "#platform/events/apply.ts";
import { atMost } from "#platform/events/signal.ts";
import type { Wakeups } from "#platform/events/wakeups.ts";
import { ReadGate } from "#platform/reads/read-gate.ts";
import type { TaskBroker } from "#platform/tasks/broker.ts";
import type { ClaimedTask, Queue } from "#platform/tasks/claims.ts";
import type { Schedule } from "#platform/tasks/define-schedule.ts";
import type { Task } from "#platform/tasks/define-task.ts";
import { type Ended, makeEndTries } from "#platform/tasks/end-tries.ts";
import { type QueueWork, workQueue } from "#platform/tasks/queue-work.ts";
import { beginTry, GivenUp, type KnownTask, prepareTask, type TaskSurroundings, type Try, type Worker } from "#platform/tasks/run-task.ts";
import { assertMakeable, startSchedules } from "#platform/tasks/schedule-clock.ts";
import { keepHouse } from "#platform/tasks/task-house.ts";
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

/** Tasks of a queue in one process: those that prepare something, and those that a batch carries out by the hundred. */
const PREPARING_AT_ONCE = 32;
const BATCHED_AT_ONCE = 512;
/** What takes long travels alone, so that it goes to whoever has room for it. */
const BATCHED_IDS_A_MESSAGE = 16;
/** Fewer than the connections of a service. */
const READS_AT_ONCE = 2;

/** Does a service's tasks in this process, beside others that do the same. */
export async function startTaskWorker(options: TaskWorkerOptions): Promise<TaskWorker> {
  const { service, database, timings, logger, wakeups, broker, clock } = options;
  const types = typesOf(options);
  const known = options.tasks.map((task): KnownTask => ({ task, options: types.get(task.schema.typeName) as TaskOptions }));
  const byQueue = [...Map.groupBy(known, (each) => each.options.queue).values()].map((of) => ({ queue: queueOf(of), known: of }));
  await broker?.ensureQueues(byQueue.map(({ queue }) => queue));
  const measures = measuresOf(options.metrics);
  const hurrying = new AbortController();
  const tries = new Map<string, Try>();
  const surroundings: TaskSurroundings = { ...options, reads: new ReadGate(READS_AT_ONCE, Number.POSITIVE_INFINITY) };
  const queues = new Map<string, QueueWork>();
  const wakeAll = (): void => {
    for (const queue of queues.values()) queue.wake();
  };
  const lease = keepWorker({ database, timings, logger, entered: wakeAll, tries });

  for (const { queue, known: of } of byQueue.filter(({ queue: { name } }) => options.works(name))) {
    const kinds = new Map(of.map((kind) => [kind.task.schema.typeName, kind]));
    const labels = { service, queue: queue.name };
    const waits = measures.waits.recorder(labels);
    const durations = measures.durations.recorder(labels);
    // A line for each queue: what waits for a row holds up its own at the most.
    const endTry = makeEndTries({ apply: options.apply, timings, logger, hurrying: hurrying.signal });

    const run = async (claimed: ClaimedTask, worker: Worker): Promise<void> => {
      const tried = beginTry(kinds.get(claimed.type) as KnownTask, claimed, worker);
      const { type, attempts } = claimed;
      const startedAtMs = performance.now();
      waits.observe(Math.max(claimed.waitedMs, 0) / 1000);
      const span = options.tracer.start(`task ${type}`, claimed.traceparent, { queue: queue.name, attempt: attempts });
      tries.set(claimed.claim, tried);
      const outcome = await prepareTask(tried, surroundings);
      const ended: Ended = outcome.kind === "dropped" ? { kind: "lost" } : await endTry(tried, outcome);
      tries.delete(claimed.claim);
      const error = ended.kind === "ended" ? ended.error : undefined;
      span.end(error);
      durations.observe((performance.now() - startedAtMs) / 1000);
      measures.ended.inc({ ...labels, type, outcome: outcomeOf(ended) });
      if (ended.kind === "lost") return;
      tell(logger, claimed, ended);
      const { state, pauseMs, hasLane } = ended.ending;
      if (state === "WAITING") work.wake(clock() + pauseMs);
      if (hasLane) work.wake();
    };

    const prepares = isPreparing(of);
    const atOnce = prepares ? PREPARING_AT_ONCE : BATCHED_AT_ONCE;
    const work = workQueue({
      queue,
      atOnce,
      // Of those that are short, a batch and not one at a time.
      takeFrom: prepares ? 1 : BATCHED_AT_ONCE / 2,
      timings,
      logger,
      worker: () => lease.worker,
      source: (wake) =>
        broker === undefined ? tableSource(database, queue) : brokerSource({ database, queue, broker, timings, logger, atOnce, wake }),
      run,
    });
    wakeups.on(subjectOf(service, queue.name), () => work.wake());
    queues.set(queue.name, work);
  }

  const stopping = new AbortController();
  const house = keepHouse({
    service,
    database,
    timings,
    logger,
    metrics: options.metrics,
    types,
    tries,
    wake: wakeAll,
    stopping: stopping.signal,
  });

  const enqueued = (tasks: readonly NewTask[]): void => {
    const offers: NewTask[] = [];
    for (const task of tasks) {
      const work = queues.get(task.queue);
      if (task.runAt !== undefined) work?.wake(timestampMs(task.runAt));
      else if (broker !== undefined && task.concurrencyKey === undefined) offers.push(task);
      else {
        work?.wake();
        wakeups.notify(subjectOf(service, task.queue));
      }
    }
    broker?.offer(offers);
  };
  const offersTasks = broker !== undefined;
  const clockwork = await startSchedules({ ...options, types, offersTasks, enqueued });

  return {
    enqueued,
    async stop() {
      await clockwork.stop();
      const stopped = Promise.all([...queues.values()].map((queue) => queue.stop()));
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

/** What the contracts say of the tasks. Throws before anything is begun where they are at fault, or a schedule doesn't go with them. */
function typesOf(options: TaskWorkerOptions): ReadonlyMap<string, TaskOptions> {
  const types = tasksOf(
    options.tasks.map(({ schema }) => schema),
    options.service,
  );
  assertMakeable({ ...options, types });
  return types;
}

const subjectOf = (service: string, queue: string): string => `tasks ${service} ${queue}`;

/** What somebody ought to know of the end of a try. */
function tell(logger: Log, { id: task, type, attempts }: ClaimedTask, { ending, error }: Extract<Ended, { kind: "ended" }>): void {
  const { state, isPostponed, cause } = ending;
  if (state === "FAILED") logger.error({ err: error, task, type, attempts }, "a task has failed");
  else if (state === "WAITING") logger.warn({ task, type, attempts, isPostponed, cause }, "a task is tried again later");
}

const outcomeOf = (ended: Ended): string => {
  if (ended.kind === "lost") return "lost";
  const { state, isPostponed } = ended.ending;
  if (state === "WAITING") return isPostponed ? "postponed" : "retried";
  return state.toLowerCase();
};

/** What tasks of one queue make of it. */
function queueOf(known: readonly KnownTask[]): Queue {
  const [{ options: first }] = known as [KnownTask];
  return {
    name: first.queue,
    types: known.map(({ task }) => task.schema.typeName),
    priorities: [...new Set(known.map(({ options }) => options.priority))].sort((a, b) => b - a),
    concurrency: first.concurrency,
    idsAMessage: isPreparing(known) ? 1 : BATCHED_IDS_A_MESSAGE,
  };
}

const isPreparing = (known: readonly KnownTask[]): boolean => known.some(({ task }) => task.parts.prepare !== undefined);

const measuresOf = (metrics: Metrics) => ({
  waits: metrics.latency("polis_task_wait_seconds", "From the moment when a task is due to its start", ["service", "queue"]),
  durations: metrics.latency("polis_task_duration_seconds", "From the start of a try to its end", ["service", "queue"]),
  ended: metrics.counter("polis_task_tries_total", "Tries by what became of them", ["service", "queue", "type", "outcome"]),
});
