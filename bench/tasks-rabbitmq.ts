import { randomUUID } from "node:crypto";
import { deleteQueues, rabbitClient, testRabbit } from "#platform/tasks/rabbit.testing.ts";
import { openRabbitBroker } from "#platform/tasks/rabbit-broker.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { type Bench, figure } from "./bench.ts";
import { benchLog } from "./support/log.ts";
import { openNotes } from "./support/notes.ts";
import { quantile } from "./support/repeat.ts";
import { alternate, median, type Round, ratioFigure } from "./support/rounds.ts";
import { startServer } from "./support/server.ts";
import { latencies, openTasksDatabase } from "./support/task-figures.ts";

const ROUNDS = 3;
const TASKS = 20_000;
const TASKS_A_TRANSACTION = 100;
const TRANSACTIONS_AT_ONCE = 4;
/** Of what one may have under way there, on either side. */
const PREFETCH = 512;

export const tasksRabbitmq: Bench = {
  name: "tasks-rabbitmq",
  text: "tasks through RabbitMQ, from their enqueueing to their end, beside its client alone with the same confirms and acknowledgements",
  needs: ["rabbitmq"],
  async run({ parts, report }) {
    const server = await startServer(parts);
    const database = await openTasksDatabase(server, "tasks", parts);
    const connection = testRabbit(`bench.${randomUUID()}.`);
    parts.defer(() => deleteQueues(connection, ["test.notes", "raw"]));
    const broker = await openRabbitBroker({ connection, logger: benchLog(), metrics: new Metrics(), partingMs: 1_000 });
    parts.defer(() => broker.close());
    const service = openNotes(database, broker);

    const ours = async (): Promise<Round> => {
      await database.query({ text: "TRUNCATE tasks, effects" });
      let started = 0;
      const { promise: all, resolve } = Promise.withResolvers<void>();
      const stop = await service.work(() => {
        started += 1;
        if (started === TASKS) resolve();
      });
      const startedMs = performance.now();
      let left = TASKS / TASKS_A_TRANSACTION;
      const enqueue = async (): Promise<void> => {
        while (left > 0) {
          left -= 1;
          await service.enqueue(TASKS_A_TRANSACTION);
        }
      };
      await Promise.all(Array.from({ length: TRANSACTIONS_AT_ONCE }, enqueue));
      await all;
      for (;;) {
        const { rows } = await database.query<{ count: bigint }>({ text: "SELECT count(*) FROM effects" });
        if (Number(rows[0]?.count) >= TASKS) break;
      }
      const lastedMs = performance.now() - startedMs;
      await stop();
      return { value: (TASKS / lastedMs) * 1_000 };
    };

    const rabbit = rabbitClient(connection);
    parts.defer(() => rabbit.close());
    const queue = `${connection.prefix}raw`;
    const declaration = { queue, durable: true, arguments: { "x-queue-type": "quorum" } } as const;
    await rabbit.queueDeclare(declaration);
    const client = async (): Promise<Round> => {
      let received = 0;
      const { promise: all, resolve } = Promise.withResolvers<void>();
      const consumer = rabbit.createConsumer(
        { queue, queueOptions: declaration, qos: { prefetchCount: PREFETCH }, concurrency: PREFETCH },
        () => {
          received += 1;
          if (received === TASKS) resolve();
        },
      );
      const publisher = rabbit.createPublisher({ confirm: true });
      const startedMs = performance.now();
      let left = TASKS;
      const publish = async (): Promise<void> => {
        while (left > 0) {
          left -= 1;
          await publisher.send({ routingKey: queue, durable: true, mandatory: true }, randomUUID());
        }
      };
      await Promise.all(Array.from({ length: PREFETCH }, publish));
      await all;
      const lastedMs = performance.now() - startedMs;
      await consumer.close();
      await publisher.close();
      return { value: (TASKS / lastedMs) * 1_000 };
    };

    const found = await alternate({ ours, client }, ROUNDS, server.tidy);
    report(
      ratioFigure({
        name: "tasks through RabbitMQ",
        unit: "tasks/s",
        rounds: found.ours,
        beside: { name: "its client alone", rounds: found.client },
        goal: { of: "ratio", atLeast: 0.6 },
        note: `${TASKS}, enqueued ${TASKS_A_TRANSACTION} a transaction, each with a row that it writes, up to 16 ids a message; quorum queues, confirms, prefetch ${PREFETCH}`,
      }),
    );
    const times = await latencies(async () => (await service.enqueue(1))[0] as string, service.work);
    report(
      figure({
        name: "enqueue → start through RabbitMQ, p50",
        value: median(times),
        unit: "ms",
        medianOf: times.length,
        note: `p90 ${quantile(times, 0.9).toFixed(1)} ms; from the commit that enqueues, one at a time`,
        goal: { of: "value", atMost: 5 },
      }),
    );
  },
};
