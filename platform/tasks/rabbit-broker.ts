import { type AsyncMessage, ConsumerStatus } from "rabbitmq-client";
import { atMost, unlessAborted } from "#platform/events/signal.ts";
import type { Answer, Offer, TaskBroker } from "#platform/tasks/broker.ts";
import { CONNECT_MS, connectRabbit, type RabbitConnection } from "#platform/tasks/rabbit-connection.ts";
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
/** How often a message is brought whose worker dies of it; then it is a dead letter, and the table has the rest to say. */
const DELIVERIES_MAX = 20;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
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
  const offered = metrics.counter("polis_task_offers_total", "Tasks given to the broker, by what it said", ["queue", "outcome"]);
  const there = metrics.gauge("polis_task_broker_up", "1 while the broker of tasks takes what is offered", []);
  const nameOf = (queue: string, priority: number): string => `${connection.prefix}${queue}${priority === 0 ? "" : `.p${priority}`}`;
  const deadLetters: QueueDeclaration = {
    queue: `${connection.prefix}dead-letters`,
    durable: true,
    arguments: { "x-queue-type": "quorum" },
  };
  const idsAMessage = new Map<string, number>();
  let unconfirmed = 0;

  // Nobody reads them here, so nothing else makes them where RabbitMQ was away at the start.
  rabbit.on("connection", () => {
    make(deadLetters).catch((error: unknown) => logger.warn({ err: error }, "what is no task's id is lost"));
  });
  const stopMeasuring = metrics.measureWhenRead(() => there.set(rabbit.ready ? 1 : 0));

  const declare = async (declaration: QueueDeclaration): Promise<void> => {
    const channel = await rabbit.acquire({ emitErrorsFromChannel: true });
    channel.on("error", () => undefined);
    try {
      await unlessAborted(channel.queueDeclare(declaration), AbortSignal.timeout(CONNECT_MS));
    } finally {
      channel.close().catch(() => undefined);
    }
  };

  const make = (declaration: QueueDeclaration): Promise<void> =>
    declare(declaration).catch((error: unknown) => {
      const { queue } = declaration;
      if (isDifference(error))
        throw new Error(`RabbitMQ has another queue ${queue} than tasks need: delete it, as nothing is lost by that`, { cause: error });
      logger.warn({ err: error, queue }, "a queue isn't made yet");
    });

  // Somebody has deleted the queue. Who works it makes it again a moment later, and the table has what was lost: a quorum queue that is
  // made again as soon as it is deleted may take messages and bring none (seen with 3.10).
  const sender = openSender(rabbit, (queue) => logger.debug({ queue }, "there is no such queue"));

  const publish = async ({ queue, priority, ids }: Message): Promise<void> => {
    unconfirmed += ids.length;
    try {
      await sender.send(nameOf(queue, priority), ids.join(BETWEEN_IDS));
      offered.inc({ queue, outcome: "confirmed" }, ids.length);
    } catch (error) {
      offered.inc({ queue, outcome: "failed" }, ids.length);
      logger.debug({ err: error, tasks: ids }, "RabbitMQ hasn't confirmed tasks");
    } finally {
      unconfirmed -= ids.length;
    }
  };

  return {
    get isThere() {
      return rabbit.ready;
    },
    offer(offers) {
      for (const message of messagesOf(offers, idsAMessage)) {
        if (rabbit.ready && unconfirmed < UNCONFIRMED_MAX) void publish(message);
        else offered.inc({ queue: message.queue, outcome: "away" }, message.ids.length);
      }
    },
    async ensureQueues(queues) {
      for (const each of queues) idsAMessage.set(each.name, each.idsAMessage);
      if (!rabbit.ready) return;
      await make(deadLetters);
      for (const { name, priorities } of queues)
        for (const priority of priorities) await make(declarationOf(nameOf(name, priority), deadLetters));
    },
    deliver(queue, atOnce, take) {
      const names = queue.priorities.map((priority) => nameOf(queue.name, priority));
      const consumers = queue.priorities.map((priority) => consume(nameOf(queue.name, priority), atOnce, (ids) => take(ids, priority)));
      return {
        async backlog() {
          if (!rabbit.ready) return undefined;
          const counts = names.map(async (name) => (await rabbit.queueDeclare({ queue: name, passive: true })).messageCount);
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

  function consume(name: string, atOnce: number, take: (ids: readonly string[]) => Promise<Answer>) {
    const consumer = rabbit.createConsumer(
      // Declared as it should be: the library would else declare it again as another.
      { queue: name, queueOptions: declarationOf(name, deadLetters), qos: { prefetchCount: atOnce }, concurrency: atOnce, requeue: true },
      async (message) => {
        const ids = idsOf(message);
        if (ids === undefined) {
          logger.error({ queue: name }, "a message that is no task's id goes to the dead letters");
          return ConsumerStatus.DROP;
        }
        return (await take(ids)) === "taken" ? ConsumerStatus.ACK : ConsumerStatus.REQUEUE;
      },
    );
    consumer.on("error", (error) => logger.debug({ err: error, queue: name }, "RabbitMQ brings no tasks for a moment"));
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

type QueueDeclaration = {
  readonly queue: string;
  readonly durable: boolean;
  readonly arguments: Readonly<Record<string, string | number>>;
};

const declarationOf = (queue: string, deadLetters: QueueDeclaration): QueueDeclaration => ({
  queue,
  durable: true,
  arguments: {
    "x-queue-type": "quorum",
    "x-delivery-limit": DELIVERIES_MAX,
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": deadLetters.queue,
  },
});

/** Ours are ids as text; anybody can send something else. */
function idsOf({ body }: AsyncMessage): readonly string[] | undefined {
  const text = typeof body === "string" ? body : Buffer.isBuffer(body) ? body.toString("latin1") : "";
  const ids = text.split(BETWEEN_IDS, IDS_A_MESSAGE_MAX + 1);
  return ids.length <= IDS_A_MESSAGE_MAX && ids.every((id) => UUID.test(id)) ? ids : undefined;
}

/** 406: there is one of this name that isn't the same. */
const isDifference = (error: unknown): boolean => (error as { code?: string }).code === "PRECONDITION_FAILED";
