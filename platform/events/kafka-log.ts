import type { EventLog } from "#platform/events/event-log.ts";
import type { KafkaConnection } from "#platform/events/kafka-client.ts";
import { KafkaGroup } from "#platform/events/kafka-group.ts";
import { kafkaLag } from "#platform/events/kafka-groups.ts";
import { kafkaPublisher } from "#platform/events/kafka-publisher.ts";
import { kafkaTopics } from "#platform/events/kafka-topics.ts";
import type { EventTimings } from "#platform/events/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

export type KafkaLogOptions = {
  readonly connection: KafkaConnection;
  /** Copies of each partition of a topic that is made here; the cluster's own default unless given. */
  readonly replicas?: number | undefined;
  /** What goes in front of the payload of a type: the schema registry's header. Throws while there is none for it. */
  readonly headerOf?: ((type: string) => Promise<Uint8Array>) | undefined;
  readonly logger: Log;
  readonly metrics: Metrics;
  readonly timings: EventTimings;
};

/** The log in Kafka. Connects when something is to be done; while the cluster is away, everything but `publish` and `lag` waits. */
export function openKafkaLog({ connection, replicas, headerOf, logger, metrics, timings }: KafkaLogOptions): EventLog {
  const topics = kafkaTopics({ connection, replicas, logger, timings });
  const publisher = kafkaPublisher({ connection, topics, headerOf, logger, timings });
  const groups = new Map<string, KafkaGroup>();

  return {
    // What lies in Kafka shares no write-ahead log with anything.
    serverId: undefined,
    ensureTopics: (wanted) => topics.ensure(wanted),
    publish: (records) => publisher.publish(records),
    async subscribe(options) {
      if (groups.has(options.group)) throw new Error(`this process runs ${options.group} already`);
      for (const topic of options.topics) if (!topics.isWanted(topic)) throw new Error(`${options.group}: there is no topic ${topic}`);
      const group = new KafkaGroup({ connection, topics, logger, metrics, timings }, options);
      groups.set(options.group, group);
      return {
        async stop() {
          await group.stop();
          groups.delete(options.group);
        },
      };
    },
    lag: () => kafkaLag(connection),
    async close() {
      await Promise.all([...groups.values()].map((group) => group.stop()));
      await Promise.all([publisher.close(), topics.close()]);
    },
  };
}
