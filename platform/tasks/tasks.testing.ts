import { join } from "node:path";
import { afterAll, onTestFinished } from "vitest";
import { type Clock, systemClock } from "#platform/clock.ts";
import { missingEngines } from "#platform/engines.testing.ts";
import { testTimings } from "#platform/events/event-log.testing.ts";
import { uuidv7 } from "#platform/ids.ts";
import { testDatabase, testLog } from "#platform/postgres/database.testing.ts";
import type { Database, Statement, Transaction } from "#platform/postgres/database.ts";
import type { TaskBroker } from "#platform/tasks/broker.ts";
import type { Schedule } from "#platform/tasks/define-schedule.ts";
import type { Task } from "#platform/tasks/define-task.ts";
import { deleteQueues, TEST_QUEUES, testRabbit } from "#platform/tasks/rabbit.testing.ts";
import { openRabbitBroker } from "#platform/tasks/rabbit-broker.ts";
import { openTaskService, type TaskService } from "#platform/tasks/task-service.testing.ts";
import { defaultTaskTimings, type Timings } from "#platform/tasks/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

/** Everything a good deal faster than in life. */
export const testTaskTimings: Timings = {
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

/** PostgreSQL alone, and RabbitMQ where RABBITMQ_URL says where (`.ci/engines up rabbitmq`). */
export function taskEngines(): readonly TaskEngine[] {
  const prefix = `test.${uuidv7()}.`;
  const isAway = missingEngines(["rabbitmq"]).length > 0;
  if (!isAway) afterAll(() => deleteQueues(testRabbit(prefix), TEST_QUEUES));
  return [
    { name: "taken from PostgreSQL", isAway: false, open: undefined },
    {
      name: "carried by RabbitMQ",
      isAway,
      open: () => openRabbitBroker({ connection: testRabbit(prefix), logger: testLog, metrics: new Metrics(), partingMs: 500 }),
    },
  ];
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

/** A database of a process that freezes by itself, where a transaction is about to end with the statement of this name. */
export function freezingBefore(database: Database, last: string): Omit<Freezable, "freeze"> & { readonly frozen: Promise<void> } {
  const [frozen, thawed] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const commit = async (tx: Transaction, statements: readonly Statement[]): Promise<void> => {
    if (statements.some(({ name }) => name === last)) {
      frozen.resolve();
      await thawed.promise;
    }
    return tx.commit(statements);
  };
  return {
    database: {
      ...database,
      transaction: (run, options) =>
        database.transaction(
          (tx) => run({ query: (statement) => tx.query(statement), commit: (statements) => commit(tx, statements) }),
          options,
        ),
    },
    frozen: frozen.promise,
    thaw: () => thawed.resolve(),
  };
}

/** One process of a service that has these tasks; it ends with its test. */
export type TestProcess = Omit<TaskService, "begin"> & {
  readonly metrics: Metrics;
  begin(): Promise<void>;
};

export function testProcess(options: {
  readonly database: Database;
  /** Through which it sees the database. */
  readonly ice?: Omit<Freezable, "freeze">;
  readonly tasks: readonly Task[];
  /** The table itself unless said. */
  readonly engine?: TaskEngine;
  /** By their names. */
  readonly schedules?: { readonly [name: string]: Schedule };
  /** Whether it does the tasks of a queue; of all unless said. */
  readonly works?: (queue: string) => boolean;
  readonly clock?: Clock;
  readonly timings?: Partial<Timings>;
  readonly logger?: Log;
}): TestProcess {
  const { ice, tasks, engine, clock = systemClock, logger = testLog } = options;
  const metrics = new Metrics();
  let broker: TaskBroker | undefined;
  const service = openTaskService({
    database: ice?.database ?? options.database,
    tasks,
    offersTasks: engine?.open !== undefined,
    schedules: new Map(Object.entries(options.schedules ?? {})),
    works: options.works,
    logger,
    metrics,
    timings: { ...testTaskTimings, ...options.timings },
    clock,
  });
  const stop = async (): Promise<void> => {
    await service.stop();
    await broker?.close();
    broker = undefined;
  };
  onTestFinished(async () => {
    ice?.thaw();
    await stop();
  });
  return {
    ...service,
    metrics,
    async begin() {
      broker = await engine?.open?.();
      await service.begin(broker);
    },
    stop,
  };
}
