import type { DescMessage } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { ApplyItems } from "#platform/events/apply.ts";
import { atMost, pause } from "#platform/events/signal.ts";
import type { EventTimings } from "#platform/events/timings.ts";
import type { Wakeups } from "#platform/events/wakeups.ts";
import { ReadGate } from "#platform/reads/read-gate.ts";
import type { TaskBroker } from "#platform/tasks/broker.ts";
import { type ClaimedTask, type Queue, queueDepths, refileTasks, takeFromLost } from "#platform/tasks/claims.ts";
import type { Schedule } from "#platform/tasks/define-schedule.ts";
import type { Task } from "#platform/tasks/define-task.ts";
import { type Ended, type EndTries, makeEndTries } from "#platform/tasks/end-tries.ts";
import { type QueueWork, workQueue } from "#platform/tasks/queue-work.ts";
import { beginTry, GivenUp, type KnownTask, prepareTask, type TaskSurroundings, type Try, type Worker } from "#platform/tasks/run-task.ts";
import { startSchedules } from "#platform/tasks/schedule-clock.ts";
import { brokerSource, tableSource } from "#platform/tasks/task-source.ts";
import { type NewTask, tasksOf } from "#platform/tasks/task-types.ts";
import type { TaskTimings } from "#platform/tasks/timings.ts";
import { keepWorker } from "#platform/tasks/worker-lease.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";
import type { Tracer } from "#platform/telemetry/tracing.ts";

export type TaskWorkerOptions = Omit<TaskSurroundings, "reads"> & {
  readonly tasks: readonly Task[];
  /** By their names (`scheduleName`). */
  readonly schedules: ReadonlyMap<string, Schedule>;
  readonly apply: ApplyItems;
  /** Without one, workers take tasks from the table alone. */
  readonly broker: TaskBroker | undefined;
  readonly logger: Log;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
  readonly timings: EventTimings & TaskTimings;
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
/** Fewer than the connections of a service. */
const READS_AT_ONCE = 2;

/** Does a service's tasks in this process, beside others that do the same. */
export async function startTaskWorker(options: TaskWorkerOptions): Promise<TaskWorker> {
  const { service, database, timings, logger, wakeups, broker, clock } = options;
  const types = tasksOf(
    options.tasks.map(({ schema }) => schema),
    service,
  );
  const known = new Map(options.tasks.map((task) => [task.schema.typeName, { task, options: optionsOf(types, task.schema) }]));
  await broker?.ensureQueues(queuesOf(known));
  const measures = measuresOf(options.metrics, service);
  const hurrying = new AbortController();
  const tries = new Map<string, Try>();
  const surroundings: TaskSurroundings = { ...options, reads: new ReadGate(READS_AT_ONCE, Number.POSITIVE_INFINITY) };

  const lease = keepWorker({
    database,
    timings,
    logger,
    entered: () => {
      for (const queue of queues.values()) queue.wake();
    },
    tries,
  });

  const run = async (claimed: ClaimedTask, worker: Worker): Promise<void> => {
    const tried = beginTry(known.get(claimed.type) as KnownTask, claimed, worker);
    const { queue, type } = claimed;
    const startedAtMs = performance.now();
    measures.waits.recorder({ service, queue }).observe(Math.max(claimed.waitedMs, 0) / 1000);
    const span = options.tracer.start(`task ${type}`, claimed.traceparent, { queue, attempt: claimed.attempts });
    tries.set(claimed.claim, tried);
    const outcome = await prepareTask(tried, surroundings);
    const ended: Ended = outcome.kind === "dropped" ? { kind: "lost" } : await (ends.get(queue) as EndTries)(tried, outcome);
    tries.delete(claimed.claim);
    const error = ended.kind === "ended" ? ended.error : undefined;
    span.end(error);
    measures.durations.recorder({ service, queue }).observe((performance.now() - startedAtMs) / 1000);
    measures.ended.inc({ service, queue, type, outcome: outcomeOf(ended) });
    if (ended.kind === "lost") return;
    const { state, pauseMs, hasLane, isPostponed, cause } = ended.ending;
    if (state === "FAILED") logger.error({ err: error, task: claimed.id, type, attempts: claimed.attempts }, "a task has failed");
    else if (state === "WAITING")
      logger.warn({ task: claimed.id, type, attempts: claimed.attempts, isPostponed, cause }, "a task is tried again later");
    const work = queues.get(queue);
    if (state === "WAITING") work?.wake(clock() + pauseMs);
    if (hasLane) work?.wake();
  };

  // A line for each queue: what waits for a row holds up its own at the most.
  const ends: ReadonlyMap<string, EndTries> = new Map(
    queuesOf(known).map(({ name }) => [name, makeEndTries({ apply: options.apply, timings, logger, hurrying: hurrying.signal })]),
  );
  const queues: ReadonlyMap<string, QueueWork> = new Map(
    queuesOf(known).map(({ prepares, ...queue }) => {
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
          broker === undefined ? tableSource(database, queue) : brokerSource({ database, queue, broker, timings, atOnce, wake }),
        run,
      });
      wakeups.on(subjectOf(service, queue.name), () => work.wake());
      return [queue.name, work];
    }),
  );

  const stopping = new AbortController();
  const house = keepHouse(
    options,
    { types, tries, measures, wake: () => [...queues.values()].forEach((queue) => void queue.wake()) },
    stopping.signal,
  );

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

const subjectOf = (service: string, queue: string): string => `tasks ${service} ${queue}`;

const outcomeOf = (ended: Ended): string => {
  if (ended.kind === "lost") return "lost";
  const { state, isPostponed } = ended.ending;
  if (state === "WAITING") return isPostponed ? "postponed" : "retried";
  return state.toLowerCase();
};

function optionsOf(types: ReturnType<typeof tasksOf>, schema: DescMessage) {
  const options = types.get(schema.typeName);
  if (options === undefined) throw new Error(`${schema.typeName} isn't a task of this service`);
  return options;
}

/** The queues of these tasks. */
function queuesOf(known: ReadonlyMap<string, KnownTask>): readonly (Queue & { readonly prepares: boolean })[] {
  const groups = Map.groupBy(known.entries(), ([, { options }]) => options.queue);
  return [...groups].map(([name, of]) => ({
    name,
    types: of.map(([type]) => type),
    priorities: [...new Set(of.map(([, { options }]) => options.priority))].sort((a, b) => b - a),
    concurrency: of[0]?.[1].options.concurrency,
    prepares: of.some(([, { task }]) => task.parts.prepare !== undefined),
  }));
}

type Measures = ReturnType<typeof measuresOf>;

function measuresOf(metrics: Metrics, service: string) {
  return {
    service,
    depths: metrics.gauge("polis_tasks", "Tasks that have not ended, or failed", ["service", "queue", "state"]),
    ages: metrics.gauge("polis_task_age_seconds", "How long the task that has waited longest has been due", ["service", "queue"]),
    waits: metrics.latency("polis_task_wait_seconds", "From the moment when a task is due to its start", ["service", "queue"]),
    durations: metrics.latency("polis_task_duration_seconds", "From the start of a try to its end", ["service", "queue"]),
    ended: metrics.counter("polis_task_tries_total", "Tries by what became of them", ["service", "queue", "type", "outcome"]),
  };
}

type House = {
  readonly types: ReturnType<typeof tasksOf>;
  readonly tries: ReadonlyMap<string, Try>;
  readonly measures: Measures;
  readonly wake: () => void;
};

/** Takes tasks from workers who are gone, writes progress down, counts, and forgets what needn't be kept. */
async function keepHouse(
  { database, timings, logger }: TaskWorkerOptions,
  { types, tries, measures, wake }: House,
  stopping: AbortSignal,
): Promise<void> {
  const attemptsMax = new Map([...types].map(([type, { attempts }]) => [type, attempts]));
  const written = new Map<string, number>();
  const writeProgress = async (): Promise<void> => {
    const news = [...tries.values()].filter(({ claimed, progress }) => progress !== undefined && progress !== written.get(claimed.claim));
    for (const claim of written.keys()) if (!tries.has(claim)) written.delete(claim);
    if (news.length === 0) return;
    for (const { claimed, progress } of news) written.set(claimed.claim, progress as number);
    await database.query({
      name: "tasks progress",
      text: `UPDATE tasks SET progress = said.progress FROM unnest($1::uuid[], $2::real[], $3::uuid[]) said (id, progress, claim)
             WHERE tasks.id = said.id AND tasks.claim = said.claim AND state = 'RUNNING'`,
      values: [news.map(({ claimed }) => claimed.id), news.map(({ progress }) => progress), news.map(({ claimed }) => claimed.claim)],
    });
  };
  const count = async (): Promise<void> => {
    const { depths, ages, service } = measures;
    const found = await queueDepths(database);
    const at = (queue: string, state: string) => found.find((depth) => depth.queue === queue && depth.state === state);
    for (const queue of new Set([...[...types.values()].map(({ queue }) => queue), ...found.map(({ queue }) => queue)])) {
      for (const state of ["WAITING", "DELAYED", "BLOCKED", "RUNNING", "FAILED"])
        depths.set({ service, queue, state: state.toLowerCase() }, at(queue, state)?.tasks ?? 0);
      ages.set({ service, queue }, at(queue, "WAITING")?.age ?? 0);
    }
  };
  const sweep = async (): Promise<void> => {
    const taken = await takeFromLost(database, attemptsMax);
    if (taken === 0) return;
    logger.warn({ tasks: taken }, "tasks were taken from a worker that is gone");
    wake();
  };
  await Promise.all([
    every(timings.progressEveryMs, writeProgress),
    every(timings.taskCountMs, count),
    every(timings.workerHeartbeatMs, sweep),
    every(timings.refileEveryMs, () => refileTasks(database, types, timings.refileAfterMs)),
  ]);

  async function every(ms: number, act: () => Promise<void>): Promise<void> {
    while (!stopping.aborted) {
      await act().catch((error: unknown) => logger.debug({ err: error }, "tasks weren't looked after"));
      await pause(ms, stopping);
    }
  }
}
