import type { Connection } from "rabbitmq-client";
import { unlessAborted } from "#platform/events/signal.ts";
import type { BrokerQueue } from "#platform/tasks/broker.ts";
import { CONNECT_MS } from "#platform/tasks/rabbit-connection.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** How often a message is brought whose worker dies of it; then it is a dead letter, and the table has the rest to say. */
const DELIVERIES_MAX = 20;

/** A queue as RabbitMQ is told of it. */
export type QueueDeclaration = {
  readonly queue: string;
  readonly durable: boolean;
  readonly arguments: Readonly<Record<string, string | number>>;
};

export type RabbitQueues = {
  /** Of the queue of one priority. */
  nameOf(queue: string, priority: number): string;
  declarationOf(queue: string, priority: number): QueueDeclaration;
  /** Makes those that aren't there. Throws, naming it, where one differs; not where RabbitMQ doesn't answer. */
  ensure(queues: readonly BrokerQueue[]): Promise<void>;
};

/** The queues that tasks need in RabbitMQ, whose names begin with `prefix`, and that of what is no task's id, which is made with each connection. */
export function rabbitQueues(rabbit: Connection, { prefix, logger }: { readonly prefix: string; readonly logger: Log }): RabbitQueues {
  const deadLetters: QueueDeclaration = { queue: `${prefix}dead-letters`, durable: true, arguments: { "x-queue-type": "quorum" } };

  const declare = async (declaration: QueueDeclaration): Promise<void> => {
    const channel = await rabbit.acquire({ emitErrorsFromChannel: true });
    channel.on("error", () => undefined);
    try {
      await unlessAborted(channel.queueDeclare(declaration), AbortSignal.timeout(CONNECT_MS));
    } finally {
      channel.close().catch(() => undefined);
    }
  };

  /** False where RabbitMQ doesn't answer. */
  const make = async (declaration: QueueDeclaration): Promise<boolean> => {
    const { queue } = declaration;
    try {
      await declare(declaration);
      return true;
    } catch (error) {
      if (isDifference(error))
        throw new Error(`RabbitMQ has another queue ${queue} than tasks need: delete it, as nothing is lost by that`, { cause: error });
      logger.warn({ err: error, queue }, "a queue isn't made yet");
      return false;
    }
  };

  // Nobody reads them here, so nothing else makes them where RabbitMQ was away at the start.
  rabbit.on("connection", () => {
    make(deadLetters).catch((error: unknown) => logger.warn({ err: error }, "what is no task's id is lost"));
  });

  const nameOf = (queue: string, priority: number): string => `${prefix}${queue}${priority === 0 ? "" : `.p${priority}`}`;
  const declarationOf = (queue: string, priority: number): QueueDeclaration => ({
    queue: nameOf(queue, priority),
    durable: true,
    arguments: {
      "x-queue-type": "quorum",
      "x-delivery-limit": DELIVERIES_MAX,
      "x-dead-letter-exchange": "",
      "x-dead-letter-routing-key": deadLetters.queue,
    },
  });

  return {
    nameOf,
    declarationOf,
    async ensure(queues) {
      if (!rabbit.ready) return;
      const wanted = queues.flatMap(({ name, priorities }) => priorities.map((priority) => declarationOf(name, priority)));
      // Who works a queue makes it as well, once RabbitMQ answers.
      for (const each of [deadLetters, ...wanted]) if (!(await make(each))) return;
    },
  };
}

/** 406: there is one of this name that isn't the same. */
const isDifference = (error: unknown): boolean => (error as { code?: string }).code === "PRECONDITION_FAILED";
