import { Admin, ConfigResourceTypes, IncrementalAlterConfigOperationTypes } from "@platformatic/kafka";
import { PAST_RETENTION_MS, type Topic } from "#platform/events/event-log.ts";
import { clientOptions, closeClient, type KafkaConnection, nameThere } from "#platform/events/kafka-client.ts";
import { hasProtocolError, isAway, isUnknownTopic, refusal } from "#platform/events/kafka-errors.ts";
import { pause } from "#platform/events/signal.ts";
import type { EventTimings } from "#platform/events/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";

/**
 * Kafka deletes whole segments, once the youngest of their records is past its retention: left to itself it fills one for a week,
 * and keeps records for as much longer.
 */
const SEGMENT_MS = PAST_RETENTION_MS / 4;
const TRIES_MAX = 50;
const TRY_PAUSE_MS = 100;

/** The topics that this process needs, in a cluster that may be away when it starts. */
export type KafkaTopics = {
  /**
   * Makes topics that aren't there, and sets how long they keep events. Throws where one is there with another number of
   * partitions, or the cluster refuses. While it is away this resolves: `partitionsOf` makes up for it.
   */
  ensure(topics: readonly Topic[]): Promise<void>;
  /**
   * The number of partitions of a topic; undefined for one that nobody here ensured, nor anybody elsewhere made. Throws while the
   * cluster can't be asked, or doesn't have what was ensured.
   */
  partitionsOf(topic: string): Promise<number | undefined>;
  /** Somebody has ensured it. */
  isWanted(topic: string): boolean;
  /** `partitionsOf` looks again, and makes what isn't there any more. */
  lookAgain(): void;
  close(): Promise<void>;
};

export type KafkaTopicsOptions = {
  readonly connection: KafkaConnection;
  /** Copies of each partition; the cluster's own default unless given. */
  readonly replicas: number | undefined;
  readonly logger: Log;
  readonly timings: EventTimings;
};

export function kafkaTopics({ connection, replicas, logger, timings }: KafkaTopicsOptions): KafkaTopics {
  // A start that waits for a cluster which doesn't answer needn't wait several times.
  const admin = new Admin({ ...clientOptions(connection), retries: 0 });
  const wanted = new Map<string, Topic>();
  const made = new Set<string>();
  /** Partitions of topics that only newer code knows, and has left events for. */
  const foreign = new Map<string, number>();

  const make = async ({ name: plain, partitions, retentionMs }: Topic): Promise<void> => {
    const name = nameThere(connection, plain);
    const configs = configsOf(retentionMs);
    try {
      await admin.createTopics({ topics: [{ topic: name, partitions, replicas: replicas ?? -1 }], configs });
    } catch (error) {
      if (!hasProtocolError(error, "TOPIC_ALREADY_EXISTS")) throw error;
    }
    const found = await onceKnown(() => partitionsThere(admin, name));
    // More partitions would put a key's later events elsewhere than its earlier ones, and so break their order.
    if (found !== partitions) throw new Error(`topic ${name} has ${found} partitions in Kafka and ${partitions} in the contract`);
    await onceKnown(() => setConfigs(admin, name, configs));
    made.add(plain);
  };

  const lookUp = async (plain: string): Promise<number | undefined> => {
    try {
      const found = await partitionsThere(admin, nameThere(connection, plain));
      if (found !== undefined) foreign.set(plain, found);
      return found;
    } catch (error) {
      if (isUnknownTopic(error)) return undefined;
      throw error;
    }
  };

  return {
    async ensure(topics) {
      for (const topic of topics) wanted.set(topic.name, topic);
      for (const topic of topics)
        try {
          if (!made.has(topic.name)) await make(topic);
        } catch (error) {
          if (!isAway(error)) throw refusal(error);
          logger.warn(
            { err: error, topic: topic.name, brokers: connection.brokers },
            "Kafka (KAFKA_URL) is away; its topics are made when it is back",
          );
          return;
        }
    },
    async partitionsOf(name) {
      const topic = wanted.get(name);
      if (topic === undefined) return foreign.get(name) ?? (await lookUp(name));
      if (!made.has(name)) await make(topic);
      return topic.partitions;
    },
    isWanted: (name) => wanted.has(name),
    lookAgain() {
      made.clear();
      foreign.clear();
    },
    close: () => closeClient(admin, timings.partingMs, logger),
  };
}

/** How many partitions a topic has. Throws what `isUnknownTopic` knows where the cluster has none of the name. */
const partitionsThere = async (admin: Admin, topic: string): Promise<number | undefined> =>
  (await admin.metadata({ topics: [topic], forceUpdate: true })).topics.get(topic)?.partitionsCount;

/** Asks about a topic that was just made, perhaps by another process: a broker hears of it a moment later. */
async function onceKnown<T>(ask: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++)
    try {
      return await ask();
    } catch (error) {
      if (!isUnknownTopic(error) || tries === TRIES_MAX) throw error;
      await pause(TRY_PAUSE_MS);
    }
}

type Config = { readonly name: string; readonly value: string };

const configsOf = (retentionMs: number): Config[] => [
  { name: "retention.ms", value: String(retentionMs) },
  { name: "segment.ms", value: String(SEGMENT_MS) },
];

/** Only what differs: not everybody who may read topics may change them. */
async function setConfigs(admin: Admin, topic: string, configs: readonly Config[]): Promise<void> {
  const resource = { resourceType: ConfigResourceTypes.TOPIC, resourceName: topic };
  const [described] = await admin.describeConfigs({ resources: [{ ...resource, configurationKeys: configs.map(({ name }) => name) }] });
  const there = new Map(described?.configs.map(({ name, value }) => [name, value]));
  const changed = configs.filter(({ name, value }) => there.get(name) !== value);
  if (changed.length === 0) return;
  const set = changed.map((config) => ({ ...config, configOperation: IncrementalAlterConfigOperationTypes.SET }));
  await admin.incrementalAlterConfigs({ resources: [{ ...resource, configs: set }] });
}
