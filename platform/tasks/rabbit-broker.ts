import { type AsyncMessage, type Consumer, ConsumerStatus } from "rabbitmq-client";
import { atMost, unlessAborted } from "#platform/events/signal.ts";
import { isUuid } from "#platform/ids.ts";
import type { Answer, Offer, TaskBroker } from "#platform/tasks/broker.ts";
import { connectRabbit, type RabbitConnection } from "#platform/tasks/rabbit-connection.ts";
import { type QueueDeclaration, rabbitQueues } from "#platform/tasks/rabbit-queues.ts";
import { openSender } from "#platform/tasks/rabbit-sender.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

export type RabbitBrokerOptions = {
  readonly connection: RabbitConnection;
  readonly logger: Log;
  readonly metrics: Metrics;
  /** How long a RabbitMQ that doesn't answer may hold up each step. */
  readonly partingMs: number;
};

/** Past it, a broker that confirms nothing is given nothing: who looks into the table finds what isn't offered. */
const UNCONFIRMED_MAX = 20_000;
const ANSWER_MS = 1_000;
const BETWEEN_IDS = " ";
/** More than any release of ours puts into a message. */
const IDS_A_MESSAGE_MAX = 1_000;

/**
 * Carries tasks by RabbitMQ: a quorum queue for each queue and priority (quorum queues know no priorities before RabbitMQ 4), with
 * publisher confirms. What isn't a task's id ends in `<prefix>dead-letters`.
 */
export async function openRabbitBroker(options: RabbitBrokerOptions): Promise<TaskBroker> {
  const { connection, logger, metrics, partingMs } = options;
  const rabbit = await connectRabbit(connection, logger);
  const { nameOf, declarationOf, ensure } = rabbitQueues(rabbit, { prefix: connection.prefix, logger });
  const sender = openSender(rabbit);
  const offered = metrics.counter("polis_task_offers_total", "Tasks given to the broker, by what it said", ["queue", "outcome"]);
  const there = metrics.gauge("polis_task_broker_up", "1 while the broker of tasks takes what is offered", []);
  const stopMeasuring = metrics.measureWhenRead(() => there.set(rabbit.ready ? 1 : 0));
  const idsAMessage = new Map<string, number>();
  let unconfirmed = 0;

  const publish = async ({ queue, priority, ids }: Message): Promise<void> => {
    unconfirmed += ids.length;
    try {
      const outcome = await sender.send(nameOf(queue, priority), ids.join(BETWEEN_IDS));
      offered.inc({ queue, outcome }, ids.length);
    } catch (error) {
      offered.inc({ queue, outcome: "failed" }, ids.length);
      logger.debug({ err: error, tasks: ids }, "RabbitMQ hasn't confirmed tasks");
    } finally {
      unconfirmed -= ids.length;
    }
  };

  const room = (): number => (rabbit.ready ? UNCONFIRMED_MAX - unconfirmed : 0);

  return {
    get room() {
      return room();
    },
    offer(offers) {
      for (const message of messagesOf(offers, idsAMessage)) {
        if (room() >= message.ids.length) void publish(message);
        else offered.inc({ queue: message.queue, outcome: "away" }, message.ids.length);
      }
    },
    ensureQueues(queues) {
      for (const each of queues) idsAMessage.set(each.name, each.idsAMessage);
      return ensure(queues);
    },
    deliver({ name, priorities }, messagesAtOnce, take) {
      const queues = priorities.map((priority) => declarationOf(name, priority));
      const consumers = queues.map((queue, i) => consume(queue, messagesAtOnce, (ids) => take(ids, priorities[i] as number)));
      return {
        async backlog() {
          if (!rabbit.ready) return undefined;
          const counts = queues.map(async ({ queue }) => (await rabbit.queueDeclare({ queue, passive: true })).messageCount);
          return unlessAborted(Promise.all(counts), AbortSignal.timeout(ANSWER_MS)).catch(() => undefined);
        },
        async stop() {
          await atMost(partingMs, Promise.allSettled(consumers.map((consumer) => consumer.close())));
        },
      };
    },
    async close() {
      stopMeasuring();
      await atMost(
        partingMs,
        Promise.allSettled([sender.close()]).then(() => rabbit.close()),
      );
      rabbit.unsafeDestroy();
    },
  };

  function consume(queueOptions: QueueDeclaration, messagesAtOnce: number, take: (ids: readonly string[]) => Promise<Answer>): Consumer {
    const { queue } = queueOptions;
    const consumer = rabbit.createConsumer(
      // Declared as it should be: the library would else declare it again as another.
      { queue, queueOptions, qos: { prefetchCount: messagesAtOnce }, concurrency: messagesAtOnce, requeue: true },
      async (message) => {
        const ids = idsOf(message);
        if (ids === undefined) {
          logger.error({ queue }, "a message that is no task's id goes to the dead letters");
          return ConsumerStatus.DROP;
        }
        return (await take(ids)) === "taken" ? ConsumerStatus.ACK : ConsumerStatus.REQUEUE;
      },
    );
    consumer.on("error", (error) => logger.debug({ err: error, queue }, "RabbitMQ brings no tasks for a moment"));
    return consumer;
  }
}

type Message = { readonly queue: string; readonly priority: number; readonly ids: readonly string[] };

/** What is offered, with as many ids in a message as its queue allows. */
function* messagesOf(offers: readonly Offer[], idsAMessage: ReadonlyMap<string, number>): Generator<Message, void> {
  for (const of of Map.groupBy(offers, ({ queue, priority }) => `${priority} ${queue}`).values()) {
    const [{ queue, priority }] = of as [Offer];
    const size = idsAMessage.get(queue) ?? 1;
    for (let from = 0; from < of.length; from += size) yield { queue, priority, ids: of.slice(from, from + size).map(({ id }) => id) };
  }
}

/** Ours are ids as text; anybody can send something else. */
function idsOf({ body }: AsyncMessage): readonly string[] | undefined {
  const text = typeof body === "string" ? body : Buffer.isBuffer(body) ? body.toString("latin1") : "";
  const ids = text.split(BETWEEN_IDS, IDS_A_MESSAGE_MAX + 1);
  return ids.length <= IDS_A_MESSAGE_MAX && ids.every((id) => isUuid(id)) ? ids : undefined;
}
