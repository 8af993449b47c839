import { Consumer, type GroupAssignment } from "@platformatic/kafka";
import { FencedError, type SubscribeOptions, type Subscription } from "#platform/events/event-log.ts";
import { assignPartitions } from "#platform/events/kafka-assignment.ts";
import { clientOptions, closeClient, type KafkaConnection, nameHere, nameThere } from "#platform/events/kafka-client.ts";
import { type Fetcher, startFetching } from "#platform/events/kafka-fetcher.ts";
import { type KafkaPartitionRun, runKafkaPartition } from "#platform/events/kafka-partition.ts";
import { KafkaPositions, type Position } from "#platform/events/kafka-positions.ts";
import type { KafkaTopics } from "#platform/events/kafka-topics.ts";
import { lagGauge } from "#platform/events/lag-gauge.ts";
import { pause, unlessAborted } from "#platform/events/signal.ts";
import { type EventTimings, growingPauseMs } from "#platform/events/timings.ts";
import { partitionKey, type TopicPartition } from "#platform/events/topic-partition.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/*
 * A process as a member of one of Kafka's consumer groups. Kafka says which partitions are whose. A partition that stays with
 * this member through a rebalance just goes on; what another writes or this one writes too late is decided in the consumer's
 * own database (inbox/fence.ts), as on the log in PostgreSQL: Kafka's numbers of generations begin anew when a group has been
 * away for long, and so shut nobody out there.
 */

/** The least that brokers allow unless told otherwise: how long the partitions of a member that was killed wait. */
const SESSION_TIMEOUT_MS = 6_000;
const REBALANCE_TIMEOUT_MS = 10_000;

export type KafkaGroupOptions = {
  readonly connection: KafkaConnection;
  readonly topics: KafkaTopics;
  readonly logger: Log;
  readonly metrics: Metrics;
  readonly timings: EventTimings;
};

/** Joins a group and stays in it, whatever becomes of the cluster, until it is stopped. */
export class KafkaGroup implements Subscription {
  readonly #options: KafkaGroupOptions & { readonly subscribe: SubscribeOptions };
  readonly #runs = new Map<string, KafkaPartitionRun>();
  /** Takes no further partition, and no further batch. */
  readonly #stopping = new AbortController();
  /** The last positions are committed. */
  readonly #leaving = new AbortController();
  readonly #positions: KafkaPositions;
  readonly #fetcher: Fetcher;
  readonly #lag: ReturnType<typeof lagGauge>;
  readonly #measuring: NodeJS.Timeout;
  readonly #running: Promise<void>;
  #member: Consumer | undefined;
  /** What is this member's, since the last rebalance. */
  #assigned: readonly TopicPartition[] = [];
  #round = 0;

  constructor(options: KafkaGroupOptions, subscribe: SubscribeOptions) {
    this.#options = { ...options, subscribe };
    const { connection, timings, metrics, logger } = options;
    const { group, topics } = subscribe;
    this.#positions = new KafkaPositions({ connection, group, logger, timings, member: () => this.#member });
    this.#fetcher = startFetching({ connection, group, topics, logger, timings, runs: () => this.#runs.values() });
    this.#lag = lagGauge(metrics);
    this.#measuring = setInterval(() => this.#measure(), timings.heartbeatMs);
    this.#running = this.#stayJoined();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    clearInterval(this.#measuring);
    const runs = [...this.#runs.values()];
    for (const run of runs) run.end();
    await Promise.all(runs.map((run) => run.ended));
    await this.#fetcher.stop();
    await this.#positions.stop();
    this.#leaving.abort();
    await this.#running;
  }

  async #stayJoined(): Promise<void> {
    const { timings, subscribe } = this.#options;
    const { signal } = this.#leaving;
    for (let failures = 0; !signal.aborted; ) {
      const { member, lost } = this.#newMember();
      try {
        // Others may take their time to join as well; who is told to stop doesn't wait for them.
        if (await Promise.race([this.#join(member).then(() => true), lost.then(() => false)])) failures = 0;
        throw await lost;
      } catch (error) {
        if (signal.aborted) break;
        failures += 1;
        this.#options.logger.warn(
          { err: error, group: subscribe.group, failures, brokers: this.#options.connection.brokers },
          "the group in Kafka is away",
        );
      } finally {
        await closeClient(member, timings.partingMs, this.#options.logger);
      }
      await pause(growingPauseMs(failures, timings), signal);
    }
  }

  async #join(member: Consumer): Promise<void> {
    for (const topic of this.#options.subscribe.topics) await this.#options.topics.partitionsOf(topic);
    if (this.#leaving.signal.aborted) return;
    this.#member = member;
    await member.joinGroup({});
  }

  /** A member that hasn't joined yet; `lost` tells why it must be given up. */
  #newMember(): { readonly member: Consumer; readonly lost: Promise<unknown> } {
    const { connection, timings, subscribe } = this.#options;
    const member = new Consumer({
      ...clientOptions(connection),
      groupId: this.#there(subscribe.group),
      sessionTimeout: SESSION_TIMEOUT_MS,
      rebalanceTimeout: REBALANCE_TIMEOUT_MS,
      heartbeatInterval: timings.heartbeatMs,
      partitionAssigner: assignPartitions,
    });
    member.topics.trackAll(...subscribe.topics.map((topic) => this.#there(topic)));
    member.on("consumer:group:join", ({ assignments }) => this.#rebalanced(assignments ?? []));
    const { promise: lost, resolve } = Promise.withResolvers<unknown>();
    // The library gives up where it can't join anew; a new member doesn't.
    member.on("error", resolve);
    this.#leaving.signal.addEventListener("abort", () => resolve(undefined), { once: true });
    return { member, lost };
  }

  #rebalanced(assignments: readonly GroupAssignment[]): void {
    this.#assigned = assignments.flatMap(({ topic, partitions }) =>
      partitions.map((partition) => ({ topic: nameHere(this.#options.connection, topic), partition })),
    );
    const mine = new Set(this.#assigned.map(partitionKey));
    for (const [key, run] of this.#runs) if (!mine.has(key)) run.lose();
    this.#positions.keepOnly(this.#assigned);
    this.#round += 1;
    void this.#takeUp();
  }

  /** Starts what is this member's and doesn't run, once what ran there before has ended; tries on until the next rebalance. */
  async #takeUp(): Promise<void> {
    const round = this.#round;
    const isOver = (): boolean => round !== this.#round || this.#stopping.signal.aborted;
    for (let failures = 0; !isOver(); ) {
      try {
        const missing = this.#assigned.filter((each) => this.#isFree(each));
        await Promise.all(missing.map((each) => this.#runs.get(partitionKey(each))?.ended));
        const starts = await this.#positions.startsOf(missing, () => !isOver());
        if (isOver()) return;
        for (const start of starts) if (this.#isFree(start)) this.#start(start);
        return this.#fetcher.wake();
      } catch (error) {
        if (isOver()) return;
        failures += 1;
        this.#options.logger.warn({ err: error, group: this.#options.subscribe.group, failures }, "the group's positions can't be read");
        await pause(growingPauseMs(failures, this.#options.timings), this.#stopping.signal);
      }
    }
  }

  /** Nothing is handed over of it any more. */
  #isFree(partition: TopicPartition): boolean {
    return this.#runs.get(partitionKey(partition))?.isEnding() !== false;
  }

  #start(start: Position): void {
    const { logger, timings, subscribe } = this.#options;
    const { topic, partition } = start;
    const key = partitionKey(start);
    const run = runKafkaPartition(start, subscribe, {
      logger,
      timings,
      confirm: (signal) => this.#confirm(start, signal),
      commit: (offset) => this.#positions.commitSoon({ topic, partition, offset }),
      wantsMore: () => this.#fetcher.wake(),
    });
    this.#runs.set(key, run);
    void run.ended.then(async () => {
      this.#lag.remove(this.#labels(start));
      if (this.#runs.get(key) === run) this.#runs.delete(key);
      // Shut out in the consumer's database though Kafka says that it is ours: taken up anew, unless a rebalance says otherwise.
      await pause(timings.heartbeatMs, this.#stopping.signal);
      if (this.#assigned.some((each) => partitionKey(each) === key) && !this.#runs.has(key)) await this.#takeUp();
    });
  }

  /** Commits where the partition was taken up, which Kafka takes from a member of the present generation alone. */
  async #confirm(start: Position, signal: AbortSignal): Promise<void> {
    await unlessAborted(
      this.#positions.commitNow([start], () => !signal.aborted),
      signal,
    );
    if (signal.aborted) throw new FencedError(`${start.topic}/${start.partition} is another member's`);
  }

  #measure(): void {
    for (const run of this.#runs.values()) if (!run.isEnding()) this.#lag.set(this.#labels(run), run.lag());
  }

  #there(name: string): string {
    return nameThere(this.#options.connection, name);
  }

  #labels({ topic, partition }: TopicPartition): { group: string; topic: string; partition: string } {
    return { group: this.#options.subscribe.group, topic, partition: String(partition) };
  }
}
