import { type Assignment, FencedError, RECORDS_A_BATCH, type SubscribeOptions } from "#platform/events/event-log.ts";
import { type Appended, type Fetched, Offers } from "#platform/events/offers.ts";
import { decodeRecordBatch } from "#platform/events/record-batch.ts";
import { makeBell, pause } from "#platform/events/signal.ts";
import { type EventTimings, growingPauseMs } from "#platform/events/timings.ts";
import type { Database } from "#platform/postgres/database.ts";
import type { Log } from "#platform/telemetry/log.ts";

const BYTES_A_BATCH = 4 * 1024 * 1024;
/** A partition that this process took for one of its groups, under a lease of this generation. */
export type Holding = {
  readonly member: string;
  readonly groupId: number;
  readonly partitionId: number;
  readonly topic: string;
  readonly partition: number;
  readonly generation: bigint;
  /** The offset to go on from. */
  readonly position: bigint;
};

/** What a partition's run needs of the membership around it. */
export type Surroundings = {
  readonly database: Database;
  readonly logger: Log;
  readonly timings: EventTimings;
  /** The partition's next offset as far as it is known here. */
  readonly nextOffset: () => bigint;
  /** The member's heartbeat is known to have arrived lately: else others may hold its partitions by now. */
  readonly isAlive: () => boolean;
  /** Has the position committed, soon. */
  readonly commit: (position: bigint) => void;
};

export type PartitionRun = {
  readonly holding: Holding;
  position(): bigint;
  wake(): void;
  /** Hands over what was appended here just now, while the lease was held. What can't be kept is fetched. */
  offer(appended: Appended): void;
  /** Takes no further batch. */
  end(): void;
  isEnding(): boolean;
  /** Resolves when nothing is in flight any more. */
  readonly ended: Promise<void>;
};

export type HeldRun = PartitionRun & {
  /** Resolves when its last position is committed and its lease released. */
  readonly released: Promise<void>;
};

/** Fetches and hands over one batch after another until it is ended or fenced. */
export function runPartition(holding: Holding, options: SubscribeOptions, around: Surroundings): PartitionRun {
  const { logger, timings } = around;
  const bell = makeBell();
  const ending = new AbortController();
  const { topic, partition } = holding;
  const confirm = (): Promise<void> => confirmLease(around.database, holding);
  const assignment: Assignment = { group: options.group, topic, partition, confirm, signal: ending.signal };
  const maxRecords = options.maxRecords ?? RECORDS_A_BATCH;
  const offers = new Offers();
  let position = holding.position;

  const step = async (): Promise<void> => {
    const fetched = offers.take(position, maxRecords) ?? (await fetch(around.database, holding, position, maxRecords));
    if (fetched === undefined) return bell.wait(timings.heartbeatMs);
    await options.handle({ assignment, ...fetched });
    position = fetched.lastOffset + 1n;
    around.commit(position);
  };

  const run = async (): Promise<void> => {
    options.assigned?.(assignment);
    for (let failures = 0; !ending.signal.aborted; ) {
      if (!around.isAlive() || around.nextOffset() <= position) {
        await bell.wait(timings.heartbeatMs);
        continue;
      }
      try {
        await step();
        failures = 0;
      } catch (error) {
        if (ending.signal.aborted) return;
        failures += 1;
        logger.warn({ err: error, group: options.group, topic, partition, failures }, "events of a partition wait");
        if (error instanceof FencedError) return ending.abort();
        await pause(growingPauseMs(failures, timings), ending.signal);
        // What was read or handed over before a failure isn't relied on: the server may have come back with less.
        offers.clear();
        position = (await committedPosition(around.database, holding).catch(() => undefined)) ?? position;
      }
    }
  };

  return {
    holding,
    position: () => position,
    wake: bell.ring,
    offer: (appended) => offers.add(appended),
    end() {
      ending.abort();
      bell.ring();
    },
    isEnding: () => ending.signal.aborted,
    ended: run(),
  };
}

/** Throws FencedError where the lease is another's by now. */
async function confirmLease(database: Database, { groupId, partitionId, member, generation, topic, partition }: Holding): Promise<void> {
  const { rowCount } = await database.query({
    text: "SELECT FROM leases WHERE group_id = $1 AND partition_id = $2 AND member = $3 AND generation = $4",
    values: [groupId, partitionId, member, generation],
  });
  if (rowCount !== 1) throw new FencedError(`the lease on ${topic}/${partition} is another's`);
}

/** The records from `position` on, as long as the lease is held: joined to it, so that a crash of the server ends it. */
async function fetch(database: Database, holding: Holding, position: bigint, maxRecords: number): Promise<Fetched | undefined> {
  const { groupId, partitionId, member, generation } = holding;
  const { rows } = await database.query<{ last_offset: bigint; count: number; records: Buffer }>({
    name: "log fetch",
    text: `SELECT last_offset, count, records FROM (
             SELECT last_offset, count, records,
                    sum(count) OVER (ORDER BY last_offset) - count AS records_before,
                    sum(octet_length(records)) OVER (ORDER BY last_offset) - octet_length(records) AS bytes_before
             FROM (SELECT last_offset, count, records FROM log
                   WHERE partition_id = $2 AND last_offset >= $5
                     AND EXISTS (SELECT FROM leases WHERE group_id = $1 AND partition_id = $2 AND member = $3 AND generation = $4)
                   ORDER BY last_offset LIMIT $6) first
           ) counted WHERE records_before < $6 AND bytes_before < ${BYTES_A_BATCH} ORDER BY last_offset`,
    values: [groupId, partitionId, member, generation, position, maxRecords],
  });
  const last = rows.at(-1);
  if (last === undefined) return undefined;
  const records = rows.flatMap(({ last_offset, count, records: bytes }) => {
    const decoded = decodeRecordBatch(bytes);
    const base = last_offset - BigInt(count) + 1n;
    return base < position ? decoded.slice(Number(position - base)) : decoded;
  });
  return { records, lastOffset: last.last_offset };
}

async function committedPosition(database: Database, { groupId, partitionId }: Holding): Promise<bigint | undefined> {
  const { rows } = await database.query<{ position: bigint }>({
    text: "SELECT position FROM positions WHERE group_id = $1 AND partition_id = $2",
    values: [groupId, partitionId],
  });
  return rows[0]?.position;
}
