import { type Assignment, FencedError, RECORDS_A_BATCH, type SubscribeOptions } from "#platform/events/event-log.ts";
import { messageBytes } from "#platform/events/kafka-messages.ts";
import type { Position } from "#platform/events/kafka-positions.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { makeBell, pause } from "#platform/events/signal.ts";
import { type EventTimings, growingPauseMs } from "#platform/events/timings.ts";
import type { TopicPartition } from "#platform/events/topic-partition.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** Past this nothing more is fetched for a partition until some of it has been handled. */
const BYTES_AHEAD = 2 * 1024 * 1024;
const RECORDS_AHEAD = 2_048;

export type FetchedRecord = { readonly offset: bigint; readonly record: EventRecord };

/** What a fetch brought for a partition. */
export type KafkaFetched = {
  /** The offset that was asked for. */
  readonly from: bigint;
  readonly records: readonly FetchedRecord[];
  /** The offset to fetch from next, past what isn't shown, too. */
  readonly nextOffset: bigint;
  /** The offset after the partition's last record. */
  readonly highWatermark: bigint;
};

/** A partition in this process's hands: what was fetched waits here, and is handed over batch by batch. */
export type KafkaPartitionRun = TopicPartition & {
  /** The offset to fetch from; undefined while enough waits. */
  fetchFrom(): bigint | undefined;
  /** Takes what was fetched, unless it isn't what comes next. */
  add(fetched: KafkaFetched): void;
  /** The log doesn't have what was to be fetched: goes on from there. */
  resetTo(offset: bigint): void;
  /** How many events the group hasn't handled here, as far as is known: the batch in hand is among them. */
  lag(): number;
  end(): void;
  /** The same for one that is another's now: the position isn't committed any more, for that is the other's as well. */
  lose(): void;
  isEnding(): boolean;
  /** Resolves when nothing is in flight any more. */
  readonly ended: Promise<void>;
};

export type KafkaPartitionOptions = {
  readonly logger: Log;
  readonly timings: EventTimings;
  readonly confirm: (signal: AbortSignal) => Promise<void>;
  /** Has the position committed, soon. */
  readonly commit: (offset: bigint) => void;
  /** More may be fetched. */
  readonly wantsMore: () => void;
};

/** Hands over one batch after another, from `start` on, until it is ended or fenced. */
export function runKafkaPartition(start: Position, subscribe: SubscribeOptions, options: KafkaPartitionOptions): KafkaPartitionRun {
  const { topic, partition } = start;
  const { group, maxRecords = RECORDS_A_BATCH } = subscribe;
  const { logger, timings } = options;
  const bell = makeBell();
  const ending = new AbortController();
  const { signal } = ending;
  const assignment: Assignment = { group, topic, partition, confirm: () => options.confirm(signal), signal };
  let waiting: FetchedRecord[] = [];
  let bytes = 0;
  /** All before it is handled. */
  let position = start.offset;
  let next = start.offset;
  let highWatermark = start.offset;
  let isLost = false;

  const isFull = (): boolean => bytes >= BYTES_AHEAD || waiting.length >= RECORDS_AHEAD;

  const take = (): FetchedRecord[] => {
    const taken = waiting.slice(0, maxRecords);
    const wasFull = isFull();
    waiting = waiting.slice(taken.length);
    for (const { record } of taken) bytes -= messageBytes(record);
    if (wasFull && !isFull()) options.wantsMore();
    return taken;
  };

  const reach = (offset: bigint): void => {
    if (offset === position) return;
    position = offset;
    if (!isLost) options.commit(offset);
  };

  const handle = async (batch: readonly FetchedRecord[]): Promise<void> => {
    const lastOffset = batch.at(-1)?.offset as bigint;
    const records = batch.map(({ record }) => record);
    for (let failures = 0; !signal.aborted; ) {
      try {
        await subscribe.handle({ assignment, records, lastOffset });
        return reach(lastOffset + 1n);
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        logger.warn({ err: error, group, topic, partition, failures }, "events of a partition wait");
        if (error instanceof FencedError) return ending.abort();
        await pause(growingPauseMs(failures, timings), signal);
      }
    }
  };

  const end = (): void => {
    ending.abort();
    bell.ring();
  };

  const run = async (): Promise<void> => {
    subscribe.assigned?.(assignment);
    while (!signal.aborted) {
      const batch = take();
      if (batch.length > 0) await handle(batch);
      else {
        // Past the last record there may be what isn't shown.
        reach(next);
        await bell.wait(timings.heartbeatMs);
      }
    }
  };

  return {
    topic,
    partition,
    fetchFrom: () => (isFull() || signal.aborted ? undefined : next),
    add(fetched) {
      // Where the leader changes, two brokers may be asked for the same.
      if (fetched.from !== next) return;
      waiting = waiting.concat(fetched.records);
      for (const { record } of fetched.records) bytes += messageBytes(record);
      next = fetched.nextOffset;
      highWatermark = fetched.highWatermark;
      bell.ring();
    },
    resetTo(offset) {
      logger.error({ group, topic, partition, from: next, to: offset }, "the log has lost events that the group hadn't read");
      next = offset;
    },
    lag: () => Math.max(0, Number(highWatermark - position)),
    end,
    lose() {
      isLost = true;
      end();
    },
    isEnding: () => signal.aborted,
    ended: run(),
  };
}
