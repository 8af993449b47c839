import type { ApplyItems } from "#platform/events/apply.ts";
import type { ClaimedTask, Queue } from "#platform/tasks/claims.ts";
import { type Ended, makeEndTries } from "#platform/tasks/end-tries.ts";
import { type QueueWork, workQueue } from "#platform/tasks/queue-work.ts";
import { beginTry, type KnownTask, prepareTask, type TaskSurroundings, type Try, type Worker } from "#platform/tasks/run-task.ts";
import type { TaskSource } from "#platform/tasks/task-source.ts";
import type { Timings } from "#platform/tasks/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";
import type { Tracer } from "#platform/telemetry/tracing.ts";

/** Tasks of a queue in one process: those that prepare something, and those that a batch carries out by the hundred. */
const PREPARING_AT_ONCE = 32;
const BATCHED_AT_ONCE = 512;
/** What takes long travels alone, so that it goes to whoever has room for it. */
const BATCHED_IDS_A_MESSAGE = 16;

/** A queue of a service, with the tasks that are done in it. */
export type TaskQueue = { readonly queue: Queue; readonly known: readonly KnownTask[] };

/** The queues of a service's tasks. */
export const queuesOf = (known: readonly KnownTask[]): TaskQueue[] =>
  [...Map.groupBy(known, ({ options }) => options.queue).values()].map((of) => ({ queue: queueOf(of), known: of }));

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

export type TaskMeasures = ReturnType<typeof taskMeasures>;

export const taskMeasures = (metrics: Metrics) => ({
  waits: metrics.latency("polis_task_wait_seconds", "From the moment when a task is due to its start", ["service", "queue"]),
  durations: metrics.latency("polis_task_duration_seconds", "From the start of a try to its end", ["service", "queue"]),
  ended: metrics.counter("polis_task_tries_total", "Tries by what became of them", ["service", "queue", "type", "outcome"]),
});

/** Does the tasks of one queue in this process. */
export function workTasks(options: {
  readonly tasks: TaskQueue;
  readonly surroundings: TaskSurroundings;
  readonly apply: ApplyItems;
  readonly worker: () => Worker | undefined;
  /** Where they are taken from; at most `atOnce` of them are under way here. */
  readonly source: (atOnce: number, wake: () => void) => TaskSource;
  /** What runs here, by claim: of all queues. */
  readonly tries: Map<string, Try>;
  readonly timings: Timings;
  readonly logger: Log;
  readonly tracer: Tracer;
  readonly measures: TaskMeasures;
  /** A database that is away isn't waited for any longer. */
  readonly hurrying: AbortSignal;
}): QueueWork {
  const { tasks, surroundings, tries, timings, logger, measures } = options;
  const { queue, known } = tasks;
  const kinds = new Map(known.map((kind) => [kind.task.schema.typeName, kind]));
  const labels = { service: surroundings.service, queue: queue.name };
  const waits = measures.waits.recorder(labels);
  const durations = measures.durations.recorder(labels);
  // A line for each queue: what waits for a row holds up its own at the most.
  const endTry = makeEndTries({ apply: options.apply, timings, logger, hurrying: options.hurrying });

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
    if (state === "WAITING") work.wake(surroundings.clock() + pauseMs);
    if (hasLane) work.wake();
  };

  const prepares = isPreparing(known);
  const atOnce = prepares ? PREPARING_AT_ONCE : BATCHED_AT_ONCE;
  const work = workQueue({
    queue,
    atOnce,
    // Of those that are short, a batch and not one at a time.
    takeFrom: prepares ? 1 : BATCHED_AT_ONCE / 2,
    timings,
    logger,
    worker: options.worker,
    source: (wake) => options.source(atOnce, wake),
    run,
  });
  return work;
}

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
