import { type AsyncMessage, Connection, type ConnectionOptions, ConsumerStatus, type Publisher } from "rabbitmq-client";
import type { EngineTls } from "#platform/config/setting-file.ts";
import type { RabbitUrl } from "#platform/config/setting-types.ts";
import { atMost, unlessAborted } from "#platform/events/signal.ts";
import type { Answer, Offer, TaskBroker } from "#platform/tasks/broker.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/** How RabbitMQ is reached. */
export type RabbitConnection = {
  readonly url: RabbitUrl;
  readonly tls: EngineTls | undefined;
  /** In front of the names of queues. */
  readonly prefix: string;
};

export type RabbitBrokerOptions = {
  readonly connection: RabbitConnection;
  readonly logger: Log;
  readonly metrics: Metrics;
  /** How long a RabbitMQ that doesn't answer may hold up each step. */
  readonly partingMs: number;
};

/** Past it, a broker that confirms nothing is given nothing: who looks into the table finds what isn't offered. */
const UNCONFIRMED_MAX = 20_000;
const CONNECT_MS = 5_000;
const ANSWER_MS = 1_000;
const HEARTBEAT_S = 10;
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
  const rabbit = await connect(connection, logger);
  const offered = metrics.counter("polis_task_offers_total", "Tasks given to the broker, by what it said", ["queue", "outcome"]);
  const there = metrics.gauge("polis_task_broker_up", "1 while the broker of tasks takes what is offered", []);
  const nameOf = (queue: string, priority: number): string => `${connection.prefix}${queue}${priority === 0 ? "" : `.p${priority}`}`;
  const deadLetters = `${connection.prefix}dead-letters`;
  const idsAMessage = new Map<string, number>();
  let publisher: Publisher | undefined;
  let unconfirmed = 0;

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

  const publish = async ({ queue, priority, ids }: Message): Promise<void> => {
    unconfirmed += ids.length;
    try {
      publisher ??= openPublisher();
      const envelope = { routingKey: nameOf(queue, priority), durable: true, mandatory: true, contentType: "text/plain" };
      await publisher.send(envelope, ids.join(BETWEEN_IDS));
      offered.inc({ queue, outcome: "confirmed" }, ids.length);
    } catch (error) {
      offered.inc({ queue, outcome: "failed" }, ids.length);
      logger.debug({ err: error, tasks: ids }, "RabbitMQ hasn't confirmed tasks");
    } finally {
      unconfirmed -= ids.length;
    }
  };

  const openPublisher = (): Publisher => {
    const made = rabbit.createPublisher({ confirm: true });
    // Not made again here: whoever works it does, a moment later. A quorum queue that is made again as soon as it is deleted may take
    // messages and bring none (RabbitMQ 3.10).
    made.on("basic.return", ({ routingKey }) => logger.debug({ queue: routingKey }, "somebody has deleted a queue"));
    return made;
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
      const wanted = [
        { queue: deadLetters, durable: true, arguments: { "x-queue-type": "quorum" } },
        ...queues.flatMap(({ name, priorities }) => priorities.map((priority) => declarationOf(nameOf(name, priority), deadLetters))),
      ];
      for (const each of queues) idsAMessage.set(each.name, each.idsAMessage);
      if (!rabbit.ready) return;
      for (const each of wanted)
        await declare(each).catch((error: unknown) => {
          if (isDifference(error))
            throw new Error(`RabbitMQ has another queue ${each.queue} than tasks need: delete it, as nothing is lost by that`, {
              cause: error,
            });
          logger.warn({ err: error, queue: each.queue }, "a queue isn't made yet");
        });
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
        Promise.allSettled([publisher?.close()]).then(() => rabbit.close()),
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

/** Goes on where RabbitMQ is away, and by itself once it is back. Throws where it won't have us. */
async function connect(connection: RabbitConnection, logger: Log): Promise<Connection> {
  const rabbit = new Connection(clientOptions(connection));
  const { promise: answered, resolve: hasAnswered } = Promise.withResolvers<unknown>();
  rabbit.on("connection", () => {
    hasAnswered(undefined);
    logger.info("RabbitMQ carries tasks");
  });
  rabbit.on("error", (error) => {
    hasAnswered(error);
    logger.warn({ err: error }, "RabbitMQ is away; tasks are taken from PostgreSQL");
  });
  const refusal = await answered;
  if (!isRefusal(refusal)) return rabbit;
  rabbit.unsafeDestroy();
  throw new Error(`RabbitMQ refuses: ${(refusal as Error).message}`, { cause: refusal });
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

const declarationOf = (queue: string, deadLetters: string): QueueDeclaration => ({
  queue,
  durable: true,
  arguments: {
    "x-queue-type": "quorum",
    "x-delivery-limit": DELIVERIES_MAX,
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": deadLetters,
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

/** It answers, and won't have us: no waiting helps. */
const isRefusal = (error: unknown): boolean =>
  ["ACCESS_REFUSED", "NOT_ALLOWED"].includes((error as { code?: string } | undefined)?.code ?? "");

export const clientOptions = ({ url, tls }: RabbitConnection): ConnectionOptions => ({
  hosts: [...url.hosts],
  username: url.user.name,
  password: url.user.password,
  vhost: url.vhost,
  ...(url.tls ? { tls: tls ?? {} } : {}),
  connectionName: "polis",
  connectionTimeout: CONNECT_MS,
  acquireTimeout: CONNECT_MS,
  heartbeat: HEARTBEAT_S,
  retryLow: 200,
  retryHigh: 5_000,
  noDelay: true,
});
