import { Consumer, ListOffsetTimestamps } from "@platformatic/kafka";
import { clientOptions, closeClient, type KafkaConnection, nameHere, nameThere } from "#platform/events/kafka-client.ts";
import { errorsIn } from "#platform/events/kafka-errors.ts";
import { toRecord } from "#platform/events/kafka-messages.ts";
import type { FetchedRecord, KafkaFetched, KafkaPartitionRun } from "#platform/events/kafka-partition.ts";
import { makeBell, pause } from "#platform/events/signal.ts";
import { type EventTimings, growingPauseMs } from "#platform/events/timings.ts";
import { partitionKey } from "#platform/events/topic-partition.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** How long a broker holds a request for which it has nothing. */
const MAX_WAIT_MS = 500;
const BYTES_A_FETCH = 4 * 1024 * 1024;
const BYTES_A_PARTITION = 1024 * 1024;
const NONE = 0;
const OFFSET_OUT_OF_RANGE = 1;
const CONTROL_BATCH = 0x20;

type ClusterTopics = Awaited<ReturnType<Consumer["metadata"]>>["topics"];
type FetchResponse = Awaited<ReturnType<Consumer["fetch"]>>;
type PartitionResponse = FetchResponse["responses"][number]["partitions"][number];

/** A partition that can take more, and the offset from which it wants it. */
type Wanted = { readonly run: KafkaPartitionRun; readonly from: bigint };

export type FetcherOptions = {
  readonly connection: KafkaConnection;
  readonly group: string;
  readonly topics: readonly string[];
  readonly logger: Log;
  readonly timings: EventTimings;
  /** The partitions that are held now. */
  readonly runs: () => Iterable<KafkaPartitionRun>;
};

export type Fetcher = {
  /** A partition came, or can take more. */
  wake(): void;
  stop(): Promise<void>;
};

/**
 * Fetches for all partitions of a group that this process holds: of each broker that leads some of them, one request at a time,
 * for those that can take more. On connections of its own, since a broker answers one request of a connection after the other,
 * and these wait.
 */
export function startFetching({ connection, group, topics, logger, timings, runs }: FetcherOptions): Fetcher {
  const client = new Consumer({ ...clientOptions(connection), groupId: nameThere(connection, group) });
  const names = topics.map((topic) => nameThere(connection, topic));
  client.topics.trackAll(...names);
  const bell = makeBell();
  const stopping = new AbortController();
  const asked = new Set<number>();
  /** Of which topic a partition was when it was first fetched from: one that is made anew begins its offsets anew. */
  const topicIds = new WeakMap<KafkaPartitionRun, string>();
  /** In a row: of each broker, and of asking who leads what. */
  const failures = new Map<number | "metadata", number>();

  const failed = async (whom: number | "metadata", error: unknown): Promise<void> => {
    if (stopping.signal.aborted) return;
    const inARow = (failures.get(whom) ?? 0) + 1;
    failures.set(whom, inARow);
    logger.warn({ err: error, group, failures: inARow }, "events can't be fetched");
    client.clearMetadata();
    await pause(growingPauseMs(inARow, timings), stopping.signal);
  };

  /** Those that can take more, by the broker that leads them. */
  const byLeader = (known: ClusterTopics): Map<number, Wanted[]> => {
    const found = new Map<number, Wanted[]>();
    for (const run of runs()) {
      const topic = known.get(nameThere(connection, run.topic));
      const leader = topic?.partitions[run.partition]?.leader;
      const from = run.fetchFrom();
      if (topic === undefined || leader === undefined || leader < 0 || from === undefined) continue;
      if ((topicIds.get(run) ?? topic.id) !== topic.id) {
        logger.error({ group, topic: run.topic, partition: run.partition }, "a topic was deleted and made anew; what wasn't read is lost");
        run.lose();
        continue;
      }
      topicIds.set(run, topic.id);
      found.set(leader, [...(found.get(leader) ?? []), { run, from }]);
    }
    return found;
  };

  const ask = async (node: number, wanted: readonly Wanted[], known: ClusterTopics): Promise<void> => {
    const topics = [...Map.groupBy(wanted, ({ run }) => run.topic)].map(([topic, ofTopic]) => ({
      topicId: known.get(nameThere(connection, topic))?.id as string,
      partitions: ofTopic.map(({ run, from }) => ({
        partition: run.partition,
        currentLeaderEpoch: -1,
        fetchOffset: from,
        lastFetchedEpoch: -1,
        partitionMaxBytes: BYTES_A_PARTITION,
      })),
    }));
    // What goes wrong for one partition takes nothing from the others: its error comes with the whole answer.
    const { response, error } = await client
      .fetch({ node, topics, maxWaitTime: MAX_WAIT_MS, minBytes: 1, maxBytes: BYTES_A_FETCH })
      .then((response) => ({ response, error: undefined }))
      .catch((error: unknown) => ({ response: responseOf(error), error }));
    if (response === undefined) throw error;
    const topicOf = new Map([...known].map(([name, { id }]) => [id, nameHere(connection, name)]));
    const byKey = new Map(wanted.map((each) => [partitionKey(each.run), each]));
    let wasReset = false;
    for (const { topicId, partitions } of response.responses)
      for (const answer of partitions) {
        const asking = byKey.get(partitionKey({ topic: topicOf.get(topicId) ?? "", partition: answer.partitionIndex }));
        if (asking === undefined) continue;
        if (answer.errorCode === NONE) asking.run.add(fetchedOf(asking, answer));
        else if (answer.errorCode === OFFSET_OUT_OF_RANGE) {
          asking.run.resetTo(await earliestOf(asking.run));
          wasReset = true;
        }
      }
    // Of what else went wrong, the next answer tells.
    if (error !== undefined && !wasReset) throw error;
  };

  const earliestOf = async (run: KafkaPartitionRun): Promise<bigint> => {
    const topic = nameThere(connection, run.topic);
    const earliest = await client.listOffsets({
      topics: [topic],
      partitions: { [topic]: [run.partition] },
      timestamp: ListOffsetTimestamps.EARLIEST,
    });
    return earliest.get(topic)?.[run.partition] ?? 0n;
  };

  const run = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      try {
        const { topics: known } = await client.metadata({ topics: names });
        failures.delete("metadata");
        for (const [node, wanted] of byLeader(known)) {
          if (asked.has(node)) continue;
          asked.add(node);
          void ask(node, wanted, known)
            .then(
              () => void failures.delete(node),
              (error: unknown) => failed(node, error),
            )
            .finally(() => {
              asked.delete(node);
              bell.ring();
            });
        }
      } catch (error) {
        await failed("metadata", error);
      }
      await bell.wait(timings.heartbeatMs);
    }
  };
  const running = run();

  return {
    wake: bell.ring,
    async stop() {
      stopping.abort();
      bell.ring();
      // First, for it may wait for an answer.
      await closeClient(client, timings.partingMs, logger);
      await running;
    },
  };
}

function fetchedOf({ run: { topic, partition }, from }: Wanted, { records: batches, highWatermark }: PartitionResponse): KafkaFetched {
  let nextOffset = from;
  const records: FetchedRecord[] = [];
  for (const batch of batches ?? []) {
    if ((batch.attributes & CONTROL_BATCH) === 0)
      for (const message of batch.records) {
        const offset = batch.firstOffset + BigInt(message.offsetDelta);
        // A batch comes whole, with what lies before the offset that was asked for.
        if (offset >= from) records.push({ offset, record: toRecord(topic, partition, offset, message) });
      }
    const afterBatch = batch.firstOffset + BigInt(batch.lastOffsetDelta) + 1n;
    if (afterBatch > nextOffset) nextOffset = afterBatch;
  }
  return { from, records, nextOffset, highWatermark };
}

/** The answer that came with an error about a part of it. */
const responseOf = (error: unknown): FetchResponse | undefined =>
  errorsIn(error)
    .flatMap((each) => ("response" in each && isFetchResponse(each.response) ? [each.response] : []))
    .next().value;

const isFetchResponse = (response: unknown): response is FetchResponse =>
  typeof response === "object" && response !== null && "responses" in response;
