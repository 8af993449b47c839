import { type Assignment, FencedError, RECORDS_A_BATCH, type SubscribeOptions } from "#platform/events/event-log.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { makeBell, pause } from "#platform/events/signal.ts";
import { type EventTimings, growingPauseMs } from "#platform/events/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** Past this nothing more is fetched for a partition until some of it has been handled. */
const BYTES_AHEAD = 2 * 1024 * 1024;
const RECORDS_AHEAD = 2_048;

export type Place = { readonly topic: string; readonly partition: number };

/** A place as a key. */
export const placeKey = ({ topic, partition }: Place): string => `${partition} ${topic}`;

/** What a fetch brought for a partition. */
export type KafkaFetched = {
  readonly records: readonly { readonly offset: bigint; readonly record: EventRecord }[];
  /** The offset to fetch from next; behind what isn't shown, too. */
  readonly nextOffset: bigint;
  /** The offset behind the partition's last record. */
  readonly end: bigint;
};

/** A partition in this process's hands: what was fetched waits here, and is handed over batch by batch. */
export type KafkaRun = Place & {
  /** The offset to fetch from; undefined while enough waits. */
  fetchFrom(): bigint | undefined;
  add(fetched: KafkaFetched): void;
  /** The log doesn't have what was to be fetched: goes on from there. */
  resetTo(offset: bigint): void;
  /** How many events are still before the group here, as far as is known. */
  lag(): number;
  end(): void;
  isEnding(): boolean;
  /** Resolves when nothing is in flight any more. */
  readonly ended: Promise<void>;
};

export type KafkaRunSurroundings = {
  readonly logger: Log;
  readonly timings: EventTimings;
  readonly confirm: (signal: AbortSignal) => Promise<void>;
  /** Has the position committed, soon. */
  readonly commit: (position: bigint) => void;
  /** More may be fetched. */
  readonly hungry: () => void;
};

/** Hands over one batch after another, from `start` on, until it is ended or fenced. */
export function runKafkaPartition(
  place: Place & { readonly start: bigint },
  options: SubscribeOptions,
  around: KafkaRunSurroundings,
): KafkaRun {
  const { topic, partition } = place;
  const { logger, timings } = around;
  const maxRecords = options.maxRecords ?? RECORDS_A_BATCH;
  const bell = makeBell();
  const ending = new AbortController();
  const { signal } = ending;
  const assignment: Assignment = { group: options.group, topic, partition, confirm: () => around.confirm(signal), signal };
  let waiting: KafkaFetched["records"][number][] = [];
  let bytes = 0;
  let next = place.start;
  let end = place.start;

  const isFull = (): boolean => bytes >= BYTES_AHEAD || waiting.length >= RECORDS_AHEAD;

  const take = (): KafkaFetched["records"][number][] => {
    const taken = waiting.slice(0, maxRecords);
    const wasFull = isFull();
    waiting = waiting.slice(taken.length);
    for (const { record } of taken) bytes -= record.payload.length;
    if (wasFull && !isFull()) around.hungry();
    return taken;
  };

  const handle = async (batch: readonly KafkaFetched["records"][number][]): Promise<void> => {
    const lastOffset = batch.at(-1)?.offset as bigint;
    const records = batch.map(({ record }) => record);
    for (let failures = 0; !signal.aborted; ) {
      try {
        await options.handle({ assignment, records, lastOffset });
        return around.commit(waiting.length === 0 ? next : lastOffset + 1n);
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        logger.warn({ err: error, group: options.group, topic, partition, failures }, "events of a partition wait");
        if (error instanceof FencedError) return ending.abort();
        await pause(growingPauseMs(failures, timings), signal);
      }
    }
  };

  const run = async (): Promise<void> => {
    options.assigned?.(assignment);
    while (!signal.aborted) {
      const batch = take();
      if (batch.length > 0) await handle(batch);
      else await bell.wait(timings.heartbeatMs);
    }
  };

  return {
    topic,
    partition,
    fetchFrom: () => (isFull() || signal.aborted ? undefined : next),
    add(fetched) {
      waiting = waiting.concat(fetched.records);
      for (const { record } of fetched.records) bytes += record.payload.length;
      next = fetched.nextOffset;
      end = fetched.end;
      bell.ring();
    },
    resetTo(offset) {
      logger.error(
        { group: options.group, topic, partition, from: next, to: offset },
        "the log has lost events that the group hadn't read",
      );
      next = offset;
    },
    lag: () => Math.max(0, Number(end - next)) + waiting.length,
    end() {
      ending.abort();
      bell.ring();
    },
    isEnding: () => signal.aborted,
    ended: run(),
  };
}
