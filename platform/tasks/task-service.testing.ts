import type { DescMessage, DescService, MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { serviceCaller } from "#platform/access/caller.ts";
import { type Clock, systemClock } from "#platform/clock.ts";
import { noEquipment } from "#platform/equipment.testing.ts";
import type { ApplyOutcome } from "#platform/events/apply.ts";
import type { Wakeups } from "#platform/events/wakeups.ts";
import { uuidv7 } from "#platform/ids.ts";
import type { Database } from "#platform/postgres/database.ts";
import type { Transport } from "#platform/rpc/transport.ts";
import type { TaskBroker } from "#platform/tasks/broker.ts";
import type { Schedule } from "#platform/tasks/define-schedule.ts";
import type { Task } from "#platform/tasks/define-task.ts";
import type { EnqueueOptions, NewTask } from "#platform/tasks/task-types.ts";
import { startTaskWorker, type TaskWorker } from "#platform/tasks/task-worker.ts";
import type { Timings } from "#platform/tasks/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";
import { passingTracer } from "#platform/telemetry/tracing.ts";
import type { Tx } from "#platform/writes/definitions.ts";
import { manifestOf } from "#platform/writes/manifest.ts";
import { Writer } from "#platform/writes/writer.ts";

/* A service that has nothing but tasks: for tests, drills and benches. */

const SERVICE = "tasktest";

/** Processes of one test share no session for this: it is a matter of speed alone. */
export const noWakeups: Wakeups = { notify() {}, on() {}, async close() {} };

export type TaskService = {
  enqueue<T extends DescMessage>(schema: T, data: MessageInitShape<T>, options?: EnqueueOptions): Promise<string>;
  /** Carries out one item that writes. */
  write(write: (tx: Tx) => unknown): Promise<ApplyOutcome>;
  /** Begins to do tasks. */
  begin(broker: TaskBroker | undefined): Promise<void>;
  /** Does no more. */
  stop(): Promise<void>;
};

export function openTaskService(options: {
  readonly database: Database;
  readonly tasks: readonly Task[];
  /** Whether a broker is given what is enqueued. */
  readonly offersTasks: boolean;
  readonly schedules?: ReadonlyMap<string, Schedule>;
  /** Whether it does the tasks of a queue; of all unless said. */
  readonly works?: ((queue: string) => boolean) | undefined;
  readonly logger: Log;
  readonly metrics: Metrics;
  readonly timings: Timings;
  readonly clock?: Clock;
  readonly transportFor?: (service: DescService) => Transport;
  /** Told of what is enqueued while nobody does tasks here. */
  readonly enqueued?: (tasks: readonly NewTask[]) => void;
}): TaskService {
  const { database, tasks, offersTasks, logger, metrics, timings } = options;
  let worker: TaskWorker | undefined;
  const writer = new Writer({
    service: SERVICE,
    database,
    equipment: noEquipment,
    metrics,
    manifest: manifestOf(SERVICE, { tasks: tasks.map(({ schema }) => schema), offersTasks }),
    published: () => {},
    enqueued: (enqueued) => (worker === undefined ? options.enqueued?.(enqueued) : worker.enqueued(enqueued)),
  });
  return {
    write: (write) => writeBy(writer, SERVICE, write),
    enqueue: (schema, data, more) => enqueueBy(writer, SERVICE, schema, data, more),
    async begin(broker) {
      worker = await startTaskWorker({
        service: SERVICE,
        database,
        equipment: noEquipment,
        tasks,
        schedules: options.schedules ?? new Map(),
        works: options.works ?? (() => true),
        apply: writer.apply,
        broker,
        logger,
        metrics,
        tracer: passingTracer,
        clock: options.clock ?? systemClock,
        timings,
        wakeups: noWakeups,
        transportFor: options.transportFor ?? noPeers,
      });
    },
    async stop() {
      const stopping = worker;
      worker = undefined;
      await stopping?.stop();
    },
  };
}

const noPeers = (): never => {
  throw new Error("there are no peers here");
};

/** Carries out one item of a service that does nothing but write. */
async function writeBy(writer: Writer, service: string, write: (tx: Tx) => unknown): Promise<ApplyOutcome> {
  const now = systemClock();
  const item = {
    parts: { write },
    input: undefined,
    prepared: undefined,
    caller: serviceCaller(service),
    id: uuidv7(now),
    commandId: uuidv7(now),
    now: timestampFromMs(now),
    trace: { traceparent: "", causationId: "" },
  };
  const [outcome] = await writer.apply([item], { first: [], last: () => [] });
  return outcome as ApplyOutcome;
}

/** Has a task done, and nothing else; returns its id. */
export async function enqueueBy<T extends DescMessage>(
  writer: Writer,
  service: string,
  schema: T,
  data: MessageInitShape<T>,
  options?: EnqueueOptions,
): Promise<string> {
  let id = "";
  const outcome = await writeBy(writer, service, (tx) => {
    id = tx.enqueue(schema, data, options);
  });
  if (outcome.kind === "failed") throw outcome.error;
  return id;
}
