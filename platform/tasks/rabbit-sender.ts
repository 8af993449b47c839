import { setImmediate as turn } from "node:timers/promises";
import type { Connection, Publisher } from "rabbitmq-client";

/** How often at the most a channel is given up on which messages were refused. */
const RENEWED_EVERY_MS = 1_000;
/** So long it stays for what else is under way on it: of other queues, which take theirs. */
const GIVEN_UP_MS = 2_000;

export type Sender = {
  /**
   * Resolves once RabbitMQ has the message (`confirmed`), or has given it back as there is no such queue (`returned`); rejects where it
   * refuses it, or is lost before.
   */
  send(queue: string, text: string): Promise<"confirmed" | "returned">;
  close(): Promise<void>;
};

/**
 * Sends texts to queues. One that isn't there isn't made: who works it does that a moment after it was deleted, and a quorum queue
 * that is made again at once may take messages and bring none (seen with 3.10). A channel on which RabbitMQ refuses a message is given
 * up: one that was opened while a queue's leader was lost has all that it sends there refused for as long as it lives (seen with 3.10,
 * where a node was killed and its clients came to the next one at once: every offer of theirs failed until they started anew).
 */
export function openSender(rabbit: Connection): Sender {
  let publisher: Publisher | undefined;
  let sent = 0;
  /** Messages under way, by their ids. */
  const underWay = new Map<string | undefined, { isReturned: boolean }>();
  let renewedMs = Number.NEGATIVE_INFINITY;

  function open(): Publisher {
    const opened = rabbit.createPublisher({ confirm: true });
    opened.on("basic.return", ({ messageId }) => {
      const message = underWay.get(messageId);
      if (message !== undefined) message.isReturned = true;
    });
    return opened;
  }

  function giveUp(used: Publisher): void {
    const nowMs = performance.now();
    if (used !== publisher || nowMs - renewedMs < RENEWED_EVERY_MS) return;
    renewedMs = nowMs;
    publisher = undefined;
    setTimeout(() => used.close().catch(() => undefined), GIVEN_UP_MS).unref();
  }

  return {
    async send(queue, text) {
      publisher ??= open();
      const used = publisher;
      sent += 1;
      const messageId = String(sent);
      const message = { isReturned: false };
      underWay.set(messageId, message);
      try {
        await used.send({ routingKey: queue, durable: true, mandatory: true, contentType: "text/plain", messageId }, text);
        // RabbitMQ gives it back before it confirms, and the library tells of that a turn later.
        await turn();
        return message.isReturned ? "returned" : "confirmed";
      } catch (error) {
        if ((error as { code?: string }).code === "NACK") giveUp(used);
        throw error;
      } finally {
        underWay.delete(messageId);
      }
    },
    async close() {
      await publisher?.close();
    },
  };
}
