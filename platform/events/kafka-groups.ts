import { Admin, ListOffsetTimestamps } from "@platformatic/kafka";
import { noSuchGroup } from "#platform/events/define-consumer.ts";
import type { Groups, Lag } from "#platform/events/event-log.ts";
import { clientOptions, type KafkaConnection, nameHere, nameThere } from "#platform/events/kafka-client.ts";
import { hasProtocolError } from "#platform/events/kafka-errors.ts";
import { partitionKey, type TopicPartition } from "#platform/events/topic-partition.ts";

/** The groups of ours in a cluster, by a connection that lasts as long as the question. */
export const kafkaGroups = (connection: KafkaConnection): Groups => ({
  list: () =>
    asking(connection, async (admin) => {
      const names = await ourGroups(admin, connection);
      if (names.length === 0) return [];
      const described = await admin.describeGroups({ groups: names });
      const lags = await lagsOf(admin, names, connection);
      return names.map((name) => {
        const group = nameHere(connection, name);
        const lag = lags.reduce((sum, each) => (each.group === group ? sum + each.events : sum), 0n);
        return { group, lag, members: described.get(name)?.members.size ?? 0 };
      });
    }),
  drop: (group) =>
    asking(connection, async (admin) => {
      const names = await ourGroups(admin, connection);
      const name = nameThere(connection, group);
      if (!names.includes(name))
        throw noSuchGroup(
          group,
          names.map((each) => nameHere(connection, each)),
        );
      await admin.deleteGroups({ groups: [name] }).catch((error: unknown) => {
        throw hasProtocolError(error, "NON_EMPTY_GROUP") ? new Error(`group ${group} is being run; stop it first`) : error;
      });
    }),
});

/** What every group of ours has still before it. */
export const kafkaLag = (connection: KafkaConnection): Promise<Lag[]> =>
  asking(connection, async (admin) => lagsOf(admin, await ourGroups(admin, connection), connection));

async function asking<T>(connection: KafkaConnection, ask: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = new Admin(clientOptions(connection));
  try {
    return await ask(admin);
  } finally {
    await admin.close();
  }
}

/** Their names in the cluster, in order. */
const ourGroups = async (admin: Admin, { prefix }: KafkaConnection): Promise<string[]> =>
  [...(await admin.listGroups()).keys()].filter((name) => name.startsWith(prefix)).sort();

async function lagsOf(admin: Admin, groups: readonly string[], connection: KafkaConnection): Promise<Lag[]> {
  if (groups.length === 0) return [];
  const positions = (await admin.listConsumerGroupOffsets({ groups: [...groups] })).flatMap(({ groupId: group, topics }) =>
    topics.flatMap(({ name: topic, partitions }) =>
      partitions
        .filter(({ committedOffset }) => committedOffset >= 0n)
        .map(({ partitionIndex: partition, committedOffset }) => ({ group, topic, partition, committedOffset })),
    ),
  );
  const ends = await endsOf(admin, positions);
  return positions
    .map(({ group, topic, partition, committedOffset }) => {
      const ahead = (ends.get(partitionKey({ topic, partition })) ?? committedOffset) - committedOffset;
      return { group: nameHere(connection, group), topic: nameHere(connection, topic), partition, events: ahead > 0n ? ahead : 0n };
    })
    .sort((a, b) => compare(a.group, b.group) || compare(a.topic, b.topic) || a.partition - b.partition);
}

async function endsOf(admin: Admin, partitions: readonly TopicPartition[]): Promise<ReadonlyMap<string, bigint>> {
  const topics = [...Map.groupBy(partitions, ({ topic }) => topic)].map(([name, of]) => ({
    name,
    partitions: [...new Set(of.map(({ partition }) => partition))].map((partitionIndex) => ({
      partitionIndex,
      timestamp: ListOffsetTimestamps.LATEST,
    })),
  }));
  if (topics.length === 0) return new Map();
  const ends = await admin.listOffsets({ topics });
  return new Map(
    ends.flatMap(({ name: topic, partitions }) =>
      partitions.map(({ partitionIndex: partition, offset }) => [partitionKey({ topic, partition }), offset]),
    ),
  );
}

const compare = (a: string, b: string): number => (a < b ? -1 : Number(a > b));
