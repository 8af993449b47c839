import { Consumer, ListOffsetTimestamps } from "@platformatic/kafka";
import { clientOptions, type KafkaConnection, nameHere, nameThere, within } from "#platform/events/kafka-client.ts";
import { toRecord } from "#platform/events/kafka-messages.ts";
import { type KafkaFetched, type KafkaRun, placeKey } from "#platform/events/kafka-partition.ts";
import { makeBell, pause } from "#platform/events/signal.ts";
import { type EventTimings, growingPauseMs } from "#platform/events/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** How long a broker holds a request for which it has nothing. */
const MAX_WAIT_MS = 500;
const BYTES_A_FETCH = 4 * 1024 * 1024;
const BYTES_A_PARTITION = 1024 * 1024;
const OFFSET_OUT_OF_RANGE = 1;
const CONTROL_BATCH = 0x20;

type ClusterTopics = Awaited<ReturnType<Consumer["metadata"]>>["topics"];
type FetchResponse = Awaited<ReturnType<Consumer["fetch"]>>;

export type FetcherOptions = {
  readonly connection: KafkaConnection;
  readonly group: string;
  readonly topics: readonly string[];
  readonly logger: Log;
  readonly timings: EventTimings;
  /** The partitions that are held now. */
  readonly runs: () => Iterable<KafkaRun>;
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

  /** Those that can take more, by the broker that leads them. */
  const byLeader = (known: ClusterTopics): Map<number, KafkaRun[]> => {
    const found = new Map<number, KafkaRun[]>();
    for (const run of runs()) {
      const leader = known.get(nameThere(connection, run.topic))?.partitions[run.partition]?.leader;
      if (leader === undefined || leader < 0 || run.fetchFrom() === undefined) continue;
      found.set(leader, [...(found.get(leader) ?? []), run]);
    }
    return found;
  };

  const ask = async (node: number, wanted: readonly KafkaRun[], known: ClusterTopics): Promise<void> => {
    const ids = new Map([...known].map(([name, { id }]) => [id, nameHere(connection, name)]));
    const from = new Map(wanted.map((run) => [placeKey(run), { run, offset: run.fetchFrom() ?? 0n }]));
    const request = [...Map.groupBy(from.values(), ({ run }) => run.topic)].map(([topic, ofTopic]) => ({
      topicId: known.get(nameThere(connection, topic))?.id as string,
      partitions: ofTopic.map(({ run, offset }) => ({
        partition: run.partition,
        currentLeaderEpoch: -1,
        fetchOffset: offset,
        lastFetchedEpoch: -1,
        partitionMaxBytes: BYTES_A_PARTITION,
      })),
    }));
    const take = (response: FetchResponse): KafkaRun[] => {
      const lost: KafkaRun[] = [];
      for (const { topicId, partitions } of response.responses)
        for (const answer of partitions) {
          const asking = from.get(placeKey({ topic: ids.get(topicId) ?? "", partition: answer.partitionIndex }));
          if (asking === undefined) continue;
          if (answer.errorCode === OFFSET_OUT_OF_RANGE) lost.push(asking.run);
          else if (answer.errorCode === 0) asking.run.add(fetchedOf(asking.run, asking.offset, answer));
        }
      return lost;
    };
    try {
      take(await client.fetch({ node, topics: request, maxWaitTime: MAX_WAIT_MS, minBytes: 1, maxBytes: BYTES_A_FETCH }));
    } catch (error) {
      // What goes wrong for one partition takes nothing from the others.
      const response = responseOf(error);
      const lost = response === undefined ? [] : take(response);
      if (lost.length === 0) throw error;
      await reset(lost);
    }
  };

  const reset = async (lost: readonly KafkaRun[]): Promise<void> => {
    for (const run of lost) {
      const { partition } = run;
      const topic = nameThere(connection, run.topic);
      const earliest = await client.listOffsets({
        topics: [topic],
        partitions: { [topic]: [partition] },
        timestamp: ListOffsetTimestamps.EARLIEST,
      });
      run.resetTo(earliest.get(topic)?.[partition] ?? 0n);
    }
  };

  const run = async (): Promise<void> => {
    let failures = 0;
    const failed = async (error: unknown): Promise<void> => {
      if (stopping.signal.aborted) return;
      failures += 1;
      logger.warn({ err: error, group, failures }, "events can't be fetched");
      client.clearMetadata();
      await pause(growingPauseMs(failures, timings), stopping.signal);
    };
    while (!stopping.signal.aborted) {
      try {
        const { topics: known } = await client.metadata({ topics: names });
        for (const [node, wanted] of byLeader(known)) {
          if (asked.has(node)) continue;
          asked.add(node);
          void ask(node, wanted, known)
            .then(() => {
              failures = 0;
            }, failed)
            .finally(() => {
              asked.delete(node);
              bell.ring();
            });
        }
      } catch (error) {
        await failed(error);
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
      await running;
      await client.close().catch((error: unknown) => logger.debug({ err: error }, "a connection ends by itself"));
    },
  };
}

type PartitionAnswer = FetchResponse["responses"][number]["partitions"][number];

function fetchedOf({ topic, partition }: KafkaRun, from: bigint, { records: batches, highWatermark }: PartitionAnswer): KafkaFetched {
  let nextOffset = from;
  const records: { offset: bigint; record: KafkaFetched["records"][number]["record"] }[] = [];
  for (const batch of batches ?? []) {
    if ((batch.attributes & CONTROL_BATCH) === 0)
      for (const message of batch.records) {
        const offset = batch.firstOffset + BigInt(message.offsetDelta);
        // A batch comes whole, with what lies before the offset that was asked for.
        if (offset >= from) records.push({ offset, record: toRecord(topic, partition, offset, message) });
      }
    const behind = batch.firstOffset + BigInt(batch.lastOffsetDelta) + 1n;
    if (behind > nextOffset) nextOffset = behind;
  }
  return { records, nextOffset, end: highWatermark };
}

/** The answer that came with an error about a part of it. */
function responseOf(error: unknown): FetchResponse | undefined {
  if (!(error instanceof Error)) return undefined;
  if ("response" in error && typeof error.response === "object" && error.response !== null && "responses" in error.response)
    return error.response as FetchResponse;
  for (const each of within(error)) {
    const found = responseOf(each);
    if (found !== undefined) return found;
  }
  return undefined;
}
