import { Admin, ListOffsetTimestamps } from "@platformatic/kafka";
import type { EventLog, Lag } from "#platform/events/event-log.ts";
import { clientOptions, type KafkaConnection } from "#platform/events/kafka-client.ts";
import { KafkaGroup } from "#platform/events/kafka-group.ts";
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
  readonly headerOf?: ((type: string) => Uint8Array) | undefined;
  readonly logger: Log;
  readonly metrics: Metrics;
  readonly timings: EventTimings;
};

/** The log in Kafka. Connects when something is to be done; while the cluster is away, everything but `publish` and `lag` waits. */
export function openKafkaLog({ connection, replicas, headerOf, logger, metrics, timings }: KafkaLogOptions): EventLog {
  const topics = kafkaTopics({ connection, replicas, logger });
  const publisher = kafkaPublisher({ connection, topics, headerOf });
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
    lag: () => readLag(connection),
    async close() {
      await Promise.all([...groups.values()].map((group) => group.stop()));
      await Promise.all([publisher.close(), topics.close()]);
    },
  };
}

/** The lag of every group of ours that has a position in the cluster. */
async function readLag(connection: KafkaConnection): Promise<Lag[]> {
  const admin = new Admin(clientOptions(connection));
  const { prefix } = connection;
  const plain = (name: string): string => name.slice(prefix.length);
  try {
    const groups = [...(await admin.listGroups()).keys()].filter((group) => group.startsWith(prefix));
    if (groups.length === 0) return [];
    const positions = (await admin.listConsumerGroupOffsets({ groups })).flatMap(({ groupId: group, topics }) =>
      topics.flatMap(({ name: topic, partitions }) =>
        partitions
          .filter((each) => each.committedOffset >= 0n)
          .map((each) => ({ group, topic, partition: each.partitionIndex, at: each.committedOffset })),
      ),
    );
    const byTopic = Map.groupBy(positions, ({ topic }) => topic);
    const ends = await admin.listOffsets({
      topics: [...byTopic].map(([name, of]) => ({
        name,
        partitions: [...new Set(of.map(({ partition }) => partition))].map((partitionIndex) => ({
          partitionIndex,
          timestamp: ListOffsetTimestamps.LATEST,
        })),
      })),
    });
    const endOf = new Map(
      ends.flatMap(({ name, partitions }) => partitions.map((each) => [`${each.partitionIndex} ${name}`, each.offset] as const)),
    );
    return positions
      .map(({ group, topic, partition, at }) => {
        const ahead = (endOf.get(`${partition} ${topic}`) ?? at) - at;
        return { group: plain(group), topic: plain(topic), partition, events: ahead > 0n ? ahead : 0n };
      })
      .sort((a, b) => compare(a.group, b.group) || compare(a.topic, b.topic) || a.partition - b.partition);
  } finally {
    await admin.close();
  }
}

const compare = (a: string, b: string): number => (a < b ? -1 : Number(a > b));
