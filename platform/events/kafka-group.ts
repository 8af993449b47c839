import { Consumer, type GroupAssignment, ListOffsetTimestamps } from "@platformatic/kafka";
import { FencedError, type SubscribeOptions, type Subscription } from "#platform/events/event-log.ts";
import { clientOptions, type KafkaConnection, nameHere, nameThere } from "#platform/events/kafka-client.ts";
import { type Fetcher, startFetching } from "#platform/events/kafka-fetcher.ts";
import { type KafkaRun, type Place, placeKey, runKafkaPartition } from "#platform/events/kafka-partition.ts";
import type { KafkaTopics } from "#platform/events/kafka-topics.ts";
import { lagGauge } from "#platform/events/lag-gauge.ts";
import { pause } from "#platform/events/signal.ts";
import { type EventTimings, growingPauseMs } from "#platform/events/timings.ts";
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
  readonly #runs = new Map<string, KafkaRun>();
  readonly #dirty = new Map<string, Place & { readonly offset: bigint }>();
  /** Takes no further partition, and no further batch. */
  readonly #stopping = new AbortController();
  /** The last positions are committed. */
  readonly #leaving = new AbortController();
  readonly #fetcher: Fetcher;
  readonly #lag: ReturnType<typeof lagGauge>;
  readonly #measuring: NodeJS.Timeout;
  readonly #running: Promise<void>;
  #member: Consumer | undefined;
  readonly #committer: Consumer;
  /** What is this member's, since the last rebalance. */
  #assigned: readonly Place[] = [];
  #round = 0;
  #committing: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: KafkaGroupOptions, subscribe: SubscribeOptions) {
    this.#options = { ...options, subscribe };
    const { connection, timings, metrics, logger } = options;
    const { group, topics } = subscribe;
    this.#fetcher = startFetching({ connection, group, topics, logger, timings, runs: () => this.#runs.values() });
    this.#committer = new Consumer({ ...clientOptions(connection), groupId: this.#there(group), retries: 0 });
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
    clearTimeout(this.#timer);
    await this.#commitNow().catch((error: unknown) => this.#options.logger.debug({ err: error }, "the last positions weren't committed"));
    this.#leaving.abort();
    await this.#running;
    await this.#committer.close().catch((error: unknown) => this.#options.logger.debug({ err: error }, "a connection ends by itself"));
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
        await member.close(true).catch((error: unknown) => this.#options.logger.debug({ err: error }, "a membership ends by itself"));
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
    const mine = new Set(this.#assigned.map(placeKey));
    for (const [place, run] of this.#runs) if (!mine.has(place)) run.end();
    for (const place of this.#dirty.keys()) if (!mine.has(place)) this.#dirty.delete(place);
    this.#round += 1;
    void this.#takeUp(this.#round);
  }

  /** Starts what is this member's and doesn't run, once what ran there before has ended; tries on until the next rebalance. */
  async #takeUp(round: number): Promise<void> {
    const isOver = (): boolean => round !== this.#round || this.#stopping.signal.aborted;
    for (let failures = 0; !isOver(); ) {
      try {
        const missing = this.#assigned.filter((place) => this.#runs.get(placeKey(place))?.isEnding() !== false);
        await Promise.all(missing.map((place) => this.#runs.get(placeKey(place))?.ended));
        const starts = await this.#positionsOf(missing);
        // So that the group's lag is known from here on, also where it has nothing to read.
        const fresh = starts.filter(({ isCommitted }) => !isCommitted);
        if (fresh.length > 0) await this.#commitOffsets(fresh.map(({ topic, partition, start }) => ({ topic, partition, offset: start })));
        if (isOver()) return;
        for (const start of starts) if (this.#runs.get(placeKey(start))?.isEnding() !== false) this.#start(start, round);
        return this.#fetcher.wake();
      } catch (error) {
        failures += 1;
        this.#options.logger.warn({ err: error, group: this.#options.subscribe.group, failures }, "the group's positions can't be read");
        await pause(growingPauseMs(failures, this.#options.timings), this.#stopping.signal);
      }
    }
  }

  /** Where the group goes on: behind what it has committed, or from the earliest record. */
  async #positionsOf(places: readonly Place[]): Promise<(Place & { readonly start: bigint; readonly isCommitted: boolean })[]> {
    const member = this.#member;
    if (member === undefined || places.length === 0) return [];
    const topics = [...Map.groupBy(places, ({ topic }) => topic)].map(([topic, of]) => ({
      topic: this.#there(topic),
      partitions: of.map((each) => each.partition),
    }));
    const committed = await member.listCommittedOffsets({ topics });
    const earliest = await member.listOffsets({
      topics: topics.map(({ topic }) => topic),
      partitions: Object.fromEntries(topics.map(({ topic, partitions }) => [topic, partitions])),
      timestamp: ListOffsetTimestamps.EARLIEST,
    });
    return places.map((place) => {
      const topic = this.#there(place.topic);
      const found = committed.get(topic)?.[place.partition] ?? -1n;
      const isCommitted = found >= 0n;
      return { ...place, isCommitted, start: isCommitted ? found : (earliest.get(topic)?.[place.partition] ?? 0n) };
    });
  }

  #start(place: Place & { readonly start: bigint }, round: number): void {
    const { logger, timings, subscribe } = this.#options;
    const key = placeKey(place);
    const run = runKafkaPartition(place, subscribe, {
      logger,
      timings,
      confirm: (signal) => this.#confirm(place, signal),
      commit: (position) => this.#commit(place, position),
      hungry: () => this.#fetcher.wake(),
    });
    this.#runs.set(key, run);
    void run.ended.then(async () => {
      this.#lag.remove(this.#labels(place));
      if (this.#runs.get(key) === run) this.#runs.delete(key);
      // Shut out in the consumer's database though Kafka says that it is ours: taken up anew, unless a rebalance says otherwise.
      await pause(timings.heartbeatMs, this.#stopping.signal);
      if (this.#assigned.some((each) => placeKey(each) === key) && !this.#runs.has(key)) await this.#takeUp(round);
    });
  }

  /** Commits where the partition was taken up, which Kafka takes from a member of the present generation alone. */
  async #confirm({ topic, partition, start }: Place & { readonly start: bigint }, signal: AbortSignal): Promise<void> {
    await this.#commitOffsets([{ topic, partition, offset: start }]);
    if (signal.aborted) throw new FencedError(`${topic}/${partition} is another member's`);
  }

  #commit(place: Place, offset: bigint): void {
    this.#dirty.set(placeKey(place), { ...place, offset });
    this.#scheduleCommit(this.#options.timings.positionsEveryMs);
  }

  #scheduleCommit(afterMs: number): void {
    if (this.#timer !== undefined || this.#stopping.signal.aborted) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#commitNow().catch((error: unknown) => {
        this.#options.logger.debug({ err: error }, "positions weren't committed; they will be with the next ones");
        this.#scheduleCommit(this.#options.timings.heartbeatMs);
      });
    }, afterMs);
  }

  /** One at a time, all that is dirty; a position that is lost means events that come again. */
  #commitNow(): Promise<void> {
    this.#committing = this.#committing
      .catch(() => undefined)
      .then(async () => {
        const sent = [...this.#dirty];
        if (sent.length === 0) return;
        await this.#commitOffsets(sent.map(([, one]) => one));
        for (const [key, one] of sent) if (this.#dirty.get(key) === one) this.#dirty.delete(key);
      });
    return this.#committing;
  }

  /**
   * In the name of the member, by a client that isn't one itself: the member's own answers a commit that came too late by joining
   * the group anew, and so does its heartbeat; of two that join at once one stays in the group as a member that nobody is, and all
   * others wait for it. Throws where the member isn't of the present generation.
   */
  async #commitOffsets(offsets: readonly { topic: string; partition: number; offset: bigint }[]): Promise<void> {
    const member = this.#member;
    if (member?.isActive() !== true) throw new Error("the group is being rebalanced");
    this.#committer.memberId = member.memberId;
    this.#committer.generationId = member.generationId;
    await this.#committer.commit({ offsets: offsets.map((each) => ({ ...each, topic: this.#there(each.topic), leaderEpoch: -1 })) });
  }

  #measure(): void {
    for (const run of this.#runs.values()) if (!run.isEnding()) this.#lag.set(this.#labels(run), run.lag());
  }

  #there(name: string): string {
    return nameThere(this.#options.connection, name);
  }

  #labels({ topic, partition }: Place): { group: string; topic: string; partition: string } {
    return { group: this.#options.subscribe.group, topic, partition: String(partition) };
  }
}
