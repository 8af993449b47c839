import { join } from "node:path";
import type { DescMessage, DescService, MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Connection } from "rabbitmq-client";
import { afterAll, onTestFinished } from "vitest";
import { serviceCaller } from "#platform/access/caller.ts";
import { type Clock, systemClock } from "#platform/clock.ts";
import { rabbitUrl } from "#platform/config/setting-types.ts";
import { missingEngines } from "#platform/engines.testing.ts";
import type { ApplyOutcome } from "#platform/events/apply.ts";
import { testTimings } from "#platform/events/event-log.testing.ts";
import type { EventTimings } from "#platform/events/timings.ts";
import type { Wakeups } from "#platform/events/wakeups.ts";
import { uuidv7 } from "#platform/ids.ts";
import { testDatabase, testLog } from "#platform/postgres/database.testing.ts";
import type { Database } from "#platform/postgres/database.ts";
import type { Transport } from "#platform/rpc/transport.ts";
import type { TaskBroker } from "#platform/tasks/broker.ts";
import type { Schedule } from "#platform/tasks/define-schedule.ts";
import type { Task } from "#platform/tasks/define-task.ts";
import { openRabbitBroker, type RabbitConnection } from "#platform/tasks/rabbit-broker.ts";
import type { EnqueueOptions } from "#platform/tasks/task-types.ts";
import { startTaskWorker, type TaskWorker } from "#platform/tasks/task-worker.ts";
import { defaultTaskTimings, type TaskTimings } from "#platform/tasks/timings.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { passingTracer } from "#platform/telemetry/tracing.ts";
import type { Tx } from "#platform/writes/definitions.ts";
import { manifestOf } from "#platform/writes/manifest.ts";
import { Writer } from "#platform/writes/writer.ts";

const SERVICE = "tasktest";
const NO_WAKEUPS: Wakeups = { notify() {}, on() {}, async close() {} };

/** Everything a good deal faster than in life. */
export const testTaskTimings: EventTimings & TaskTimings = {
  ...testTimings,
  ...defaultTaskTimings,
  workerLeaseMs: 900,
  workerHeartbeatMs: 100,
  taskPollMs: 100,
  offerGraceMs: 300,
  offerLagMs: 1_000,
  longestPostponementMs: 100,
  progressEveryMs: 20,
  taskCountMs: 100,
  taskPartingMs: 300,
  refileEveryMs: 100,
  refileAfterMs: 50,
  schedulePollMs: 100,
  scheduleRoundMs: 10,
};

/** A database of a service that has tasks. */
export const tasksDatabase = (): Promise<Database> =>
  testDatabase({
    migrations: ["writes", "outbox", "tasks"].map((part) => join(import.meta.dirname, "..", part, "migrations")),
    maxConnections: 8,
  });

/** What carries tasks, for tests that hold on each. */
export type TaskEngine = {
  readonly name: string;
  /** The engine isn't there, and its tests are skipped, which engines.testing.ts says. In CI it is there. */
  readonly isAway: boolean;
  /** As one process sees it; undefined for the table itself. */
  readonly open: (() => Promise<TaskBroker>) | undefined;
};

/** The RabbitMQ that RABBITMQ_URL names, with names of its own there. Throws where none is named. */
export function testRabbit(prefix: string): RabbitConnection {
  const url = rabbitUrl.parse(process.env.RABBITMQ_URL ?? "");
  if (url === undefined) throw new Error("RABBITMQ_URL names no RabbitMQ");
  return { url, tls: undefined, prefix };
}

/** PostgreSQL alone, and RabbitMQ where RABBITMQ_URL says where (`.ci/engines up rabbitmq`). */
export function taskEngines(): readonly TaskEngine[] {
  const prefix = `test.${uuidv7()}.`;
  const isAway = missingEngines(["rabbitmq"]).length > 0;
  if (!isAway) afterAll(() => deleteQueues(prefix, QUEUES));
  return [
    { name: "taken from PostgreSQL", isAway: false, open: undefined },
    {
      name: "carried by RabbitMQ",
      isAway,
      open: () => openRabbitBroker({ connection: testRabbit(prefix), logger: testLog, metrics: new Metrics(), partingMs: 500 }),
    },
  ];
}

const QUEUES = ["test.notes", "test.notes.p10", "test.reports", "test.statements", "test.scans"];

/** Deletes these queues of a prefix, and its dead letters, so that a RabbitMQ that tests share doesn't fill with them. */
export async function deleteQueues(prefix: string, queues: readonly string[]): Promise<void> {
  const { url } = testRabbit(prefix);
  const rabbit = new Connection({ hosts: [...url.hosts], username: url.user.name, password: url.user.password, vhost: url.vhost });
  rabbit.on("error", () => undefined);
  for (const queue of [...queues, "dead-letters"]) await rabbit.queueDelete({ queue: `${prefix}${queue}` });
  await rabbit.close();
}

/** What a frozen process sees of its database: what it asks waits for the thaw. */
export type Freezable = { readonly database: Database; freeze(): void; thaw(): void };

export function freezable(database: Database): Freezable {
  let thawed = Promise.withResolvers<void>();
  thawed.resolve();
  return {
    database: {
      ...database,
      query: async (statement) => thawed.promise.then(() => database.query(statement)),
      queryAll: async (statements) => thawed.promise.then(() => database.queryAll(statements)),
      transaction: async (run, options) => thawed.promise.then(() => database.transaction(run, options)),
    },
    freeze: () => {
      thawed = Promise.withResolvers();
    },
    thaw: () => thawed.resolve(),
  };
}

/** One process of a service that has these tasks; it ends with its test. */
export type TestProcess = {
  readonly metrics: Metrics;
  enqueue<T extends DescMessage>(schema: T, data: MessageInitShape<T>, options?: EnqueueOptions): Promise<string>;
  /** Carries out one item that writes. */
  write(write: (tx: Tx) => unknown): Promise<ApplyOutcome>;
  /** Begins to do tasks. */
  begin(): Promise<void>;
  stop(): Promise<void>;
};

export function testProcess(options: {
  readonly database: Database;
  /** Through which it sees the database. */
  readonly ice?: Freezable;
  readonly tasks: readonly Task[];
  /** The table itself unless said. */
  readonly engine?: TaskEngine;
  /** By their names. */
  readonly schedules?: { readonly [name: string]: Schedule };
  readonly clock?: Clock;
  readonly timings?: Partial<EventTimings & TaskTimings>;
  readonly transportFor?: (service: DescService) => Transport;
}): TestProcess {
  const { ice, tasks, engine, transportFor = noPeers } = options;
  const database = ice?.database ?? options.database;
  const metrics = new Metrics();
  let worker: TaskWorker | undefined;
  let broker: TaskBroker | undefined;
  const schemas = tasks.map(({ schema }) => schema);
  const writer = new Writer({
    service: SERVICE,
    database,
    metrics,
    manifest: manifestOf(SERVICE, { tasks: schemas, offersTasks: engine?.open !== undefined }),
    published: () => {},
    enqueued: (enqueued) => worker?.enqueued(enqueued),
  });
  const write = (parts: (tx: Tx) => unknown): Promise<ApplyOutcome> => writeBy(writer, SERVICE, parts);
  const stop = async (): Promise<void> => {
    const stopping = worker;
    worker = undefined;
    await stopping?.stop();
    await broker?.close();
    broker = undefined;
  };
  onTestFinished(async () => {
    ice?.thaw();
    await stop();
  });
  return {
    metrics,
    write,
    enqueue: (schema, data, more) => enqueueBy(writer, SERVICE, schema, data, more),
    async begin() {
      broker = await engine?.open?.();
      worker = await startTaskWorker({
        service: SERVICE,
        database,
        tasks,
        schedules: new Map(Object.entries(options.schedules ?? {})),
        apply: writer.apply,
        broker,
        logger: testLog,
        metrics,
        tracer: passingTracer,
        clock: options.clock ?? systemClock,
        timings: { ...testTaskTimings, ...options.timings },
        wakeups: NO_WAKEUPS,
        transportFor,
      });
    },
    stop,
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
