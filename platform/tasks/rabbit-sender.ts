import type { Connection, Publisher } from "rabbitmq-client";

/** How often at the most a channel is given up on which messages were refused. */
const RENEWED_EVERY_MS = 1_000;

export type Sender = {
  /** Resolves once RabbitMQ has the message; rejects where it refuses it, or is lost before. */
  send(queue: string, text: string): Promise<void>;
  close(): Promise<void>;
};

/**
 * Sends texts to queues; `returned` is told of a queue that isn't there. A channel on which RabbitMQ refuses a message is given up: one
 * that was opened while a queue's leader was lost has all that it sends there refused for as long as it lives (seen with 3.10, where
 * a node was killed and its clients came to the next one at once: every offer of theirs failed until they started anew).
 */
export function openSender(rabbit: Connection, returned: (queue: string) => void): Sender {
  let publisher: Publisher | undefined;
  let renewedMs = Number.NEGATIVE_INFINITY;

  function open(): Publisher {
    const opened = rabbit.createPublisher({ confirm: true });
    opened.on("basic.return", ({ routingKey }) => returned(routingKey));
    return opened;
  }

  function giveUp(used: Publisher): void {
    const nowMs = performance.now();
    if (used !== publisher || nowMs - renewedMs < RENEWED_EVERY_MS) return;
    renewedMs = nowMs;
    publisher = undefined;
    used.close().catch(() => undefined);
  }

  return {
    async send(queue, text) {
      publisher ??= open();
      const used = publisher;
      try {
        await used.send({ routingKey: queue, durable: true, mandatory: true, contentType: "text/plain" }, text);
      } catch (error) {
        if ((error as { code?: string }).code === "NACK") giveUp(used);
        throw error;
      }
    },
    async close() {
      await publisher?.close();
    },
  };
}
