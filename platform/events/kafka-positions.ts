import { Consumer, ListOffsetTimestamps } from "@platformatic/kafka";
import { FencedError } from "#platform/events/event-log.ts";
import { clientOptions, closeClient, type KafkaConnection, nameThere } from "#platform/events/kafka-client.ts";
import { atMost } from "#platform/events/signal.ts";
import type { EventTimings } from "#platform/events/timings.ts";
import { partitionKey, type TopicPartition } from "#platform/events/topic-partition.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** A partition, and an offset in it: that of the next record. */
export type Position = TopicPartition & { readonly offset: bigint };

export type KafkaPositionsOptions = {
  readonly connection: KafkaConnection;
  readonly group: string;
  readonly logger: Log;
  readonly timings: EventTimings;
  /** Who is in the group for this process. */
  readonly member: () => Consumer | undefined;
};

/**
 * How far a group has come, as Kafka keeps it. Commits in the name of the member, by a client that isn't one itself: the member's
 * own answers a commit that came too late by joining the group anew, and so does its heartbeat; of two that join at once one stays
 * in the group as a member that nobody is, and all others wait for it.
 */
export class KafkaPositions {
  readonly #options: KafkaPositionsOptions;
  readonly #committer: Consumer;
  readonly #dirty = new Map<string, Position>();
  #committing: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(options: KafkaPositionsOptions) {
    this.#options = options;
    this.#committer = new Consumer({
      ...clientOptions(options.connection),
      groupId: nameThere(options.connection, options.group),
      retries: 0,
    });
  }

  /** Where the group goes on: after what it has committed, or from the earliest record, which is committed then. */
  async startsOf(partitions: readonly TopicPartition[], areOurs: () => boolean): Promise<Position[]> {
    if (partitions.length === 0) return [];
    const member = this.#member();
    const topics = [...Map.groupBy(partitions, ({ topic }) => topic)].map(([topic, of]) => ({
      topic: this.#there(topic),
      partitions: of.map((each) => each.partition),
    }));
    const committed = await member.listCommittedOffsets({ topics });
    const earliest = await member.listOffsets({
      topics: topics.map(({ topic }) => topic),
      partitions: Object.fromEntries(topics.map(({ topic, partitions }) => [topic, partitions])),
      timestamp: ListOffsetTimestamps.EARLIEST,
    });
    const offsetIn = (offsets: ReadonlyMap<string, bigint[]>, { topic, partition }: TopicPartition): bigint =>
      offsets.get(this.#there(topic))?.[partition] ?? -1n;
    const isFresh = (each: TopicPartition): boolean => offsetIn(committed, each) < 0n;
    const starts = partitions.map((each) => ({ ...each, offset: offsetIn(isFresh(each) ? earliest : committed, each) }));
    // So that the group's lag is known from here on, also where it has nothing to read.
    const fresh = starts.filter(isFresh);
    if (fresh.length > 0) await this.commitNow(fresh, areOurs);
    return starts;
  }

  /** Throws where they aren't ours any more when their turn has come, or the member isn't of the group's present generation. */
  commitNow(positions: readonly Position[], areOurs: () => boolean): Promise<void> {
    return this.#inTurn(async () => {
      if (!areOurs()) throw new FencedError("the partitions are another member's");
      await this.#send(positions);
    });
  }

  async #send(positions: readonly Position[]): Promise<void> {
    const member = this.#member();
    if (!member.isActive()) throw new Error("the group is being rebalanced");
    this.#committer.memberId = member.memberId;
    this.#committer.generationId = member.generationId;
    await this.#committer.commit({ offsets: positions.map((each) => ({ ...each, topic: this.#there(each.topic), leaderEpoch: -1 })) });
  }

  /** Commits before long, together with others; a position that is lost means events that come again. */
  commitSoon(position: Position): void {
    this.#dirty.set(partitionKey(position), position);
    this.#schedule(this.#options.timings.positionsEveryMs);
  }

  /** Forgets what wasn't committed yet of all other partitions: they are another member's. */
  keepOnly(partitions: readonly TopicPartition[]): void {
    const kept = new Set(partitions.map(partitionKey));
    for (const key of this.#dirty.keys()) if (!kept.has(key)) this.#dirty.delete(key);
  }

  /** Commits what is left, while the member is still in the group. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    const { logger, timings } = this.#options;
    const flushed = this.#flush().catch((error: unknown) => logger.debug({ err: error }, "the last positions weren't committed"));
    await atMost(timings.partingMs, flushed);
    await closeClient(this.#committer, timings.partingMs, logger);
  }

  #schedule(afterMs: number): void {
    if (this.#timer !== undefined || this.#isStopped) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#flush().catch((error: unknown) => {
        this.#options.logger.debug({ err: error }, "positions weren't committed; they will be with the next ones");
        this.#schedule(this.#options.timings.heartbeatMs);
      });
    }, afterMs);
  }

  /** All that is dirty. */
  #flush(): Promise<void> {
    return this.#inTurn(async () => {
      const sent = [...this.#dirty];
      if (sent.length === 0) return;
      await this.#send(sent.map(([, position]) => position));
      for (const [key, position] of sent) if (this.#dirty.get(key) === position) this.#dirty.delete(key);
    });
  }

  /** One commit at a time: another one's generation, set before this one is sent, would let it pass though it came too late. */
  #inTurn(commit: () => Promise<void>): Promise<void> {
    this.#committing = this.#committing.catch(() => undefined).then(commit);
    return this.#committing;
  }

  #member(): Consumer {
    const member = this.#options.member();
    if (member === undefined) throw new Error("this process isn't in the group yet");
    return member;
  }

  #there(topic: string): string {
    return nameThere(this.#options.connection, topic);
  }
}
