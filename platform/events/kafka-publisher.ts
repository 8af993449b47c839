import { type MessageToProduce, Producer } from "@platformatic/kafka";
import { PAYLOAD_BYTES_MAX, RecordRefusedError } from "#platform/events/event-log.ts";
import { clientOptions, closeClient, type KafkaConnection, nameThere } from "#platform/events/kafka-client.ts";
import { hasProtocolError, isUnknownTopic } from "#platform/events/kafka-errors.ts";
import { messageBytes, toMessage } from "#platform/events/kafka-messages.ts";
import type { KafkaTopics } from "#platform/events/kafka-topics.ts";
import { partitionOf } from "#platform/events/partition.ts";
import type { EventRecord } from "#platform/events/record.ts";
import type { EventTimings } from "#platform/events/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** A send holds one batch a partition, and a broker refuses one of more than 1 MiB unless told otherwise. */
const BYTES_A_SEND = 768 * 1024;
const REFUSALS = ["MESSAGE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD"];

export type KafkaPublisher = {
  /** Appends records in order; resolves when every replica in sync has them. Throws RecordRefusedError. */
  publish(records: readonly EventRecord[]): Promise<void>;
  close(): Promise<void>;
};

export type KafkaPublisherOptions = {
  readonly connection: KafkaConnection;
  readonly topics: KafkaTopics;
  /** What goes in front of the payload of a type; nothing where there is no schema registry. */
  readonly headerOf: ((type: string) => Promise<Uint8Array>) | undefined;
  readonly logger: Log;
  readonly timings: EventTimings;
};

/**
 * Publishes with idempotent producers: within one of them Kafka drops what arrives twice and refuses what arrives out of order.
 * A producer has one batch on its way at a time, so each relay that publishes has one to itself meanwhile; one that failed is
 * given up, and with it the numbers of which nobody knows how far they got.
 */
export function kafkaPublisher({ connection, topics, headerOf, logger, timings }: KafkaPublisherOptions): KafkaPublisher {
  const idle: Producer[] = [];
  const all = new Set<Producer>();
  let closed = false;

  const drop = async (producer: Producer): Promise<void> => {
    all.delete(producer);
    await closeClient(producer, timings.partingMs, logger);
  };

  const send = async (messages: MessageToProduce[]): Promise<void> => {
    if (closed) throw new Error("the event log is closed");
    const producer = idle.pop() ?? new Producer({ ...clientOptions(connection), idempotent: true });
    all.add(producer);
    try {
      await producer.send({ messages });
    } catch (error) {
      await drop(producer);
      throw error;
    }
    idle.push(producer);
  };

  const messagesOf = async (records: readonly EventRecord[]): Promise<MessageToProduce[]> => {
    const partitionsOf = askedOnce((topic) => topics.partitionsOf(topic));
    const headerFor = headerOf && askedOnce(headerOf);
    const messages: MessageToProduce[] = [];
    for (const record of records) {
      const { topic, key, payload, type } = record;
      if (payload.length > PAYLOAD_BYTES_MAX) throw new RecordRefusedError(record, "its payload is too large");
      const partitions = await partitionsOf(topic);
      if (partitions === undefined) throw new RecordRefusedError(record, `there is no topic ${topic}`);
      const partition = partitionOf(key, partitions);
      messages.push(toMessage(record, { topic: nameThere(connection, topic), partition, frameHeader: await headerFor?.(type) }));
    }
    return messages;
  };

  return {
    async publish(records) {
      const messages = await messagesOf(records);
      for (const { from, to } of sends(records)) {
        try {
          await send(messages.slice(from, to));
        } catch (error) {
          // Somebody has deleted a topic.
          if (isUnknownTopic(error)) topics.lookAgain();
          if (!isRefused(error)) throw error;
          // One of them is at fault; the others are published, some perhaps twice.
          for (let i = from; i < to; i++)
            await send(messages.slice(i, i + 1)).catch((cause: unknown) => {
              throw isRefused(cause) ? new RecordRefusedError(records[i] as EventRecord, "Kafka doesn't take it") : cause;
            });
        }
      }
    },
    async close() {
      closed = true;
      await Promise.all([...all].map(drop));
    },
  };
}

/** The same question under the same name is asked once. */
function askedOnce<T>(ask: (name: string) => Promise<T>): (name: string) => Promise<T> {
  const answers = new Map<string, Promise<T>>();
  return (name) => {
    const known = answers.get(name) ?? ask(name);
    answers.set(name, known);
    return known;
  };
}

const isRefused = (error: unknown): boolean => REFUSALS.some((name) => hasProtocolError(error, name));

/** Where each send begins and ends. */
function sends(records: readonly EventRecord[]): { from: number; to: number }[] {
  const found: { from: number; to: number }[] = [];
  let bytes = 0;
  records.forEach((record, i) => {
    const more = messageBytes(record);
    const last = found.at(-1);
    if (last === undefined || bytes + more > BYTES_A_SEND) {
      found.push({ from: i, to: i + 1 });
      bytes = more;
    } else {
      last.to = i + 1;
      bytes += more;
    }
  });
  return found;
}
