import { type EventLog, type Lag, PAYLOAD_BYTES_MAX, RecordRefusedError, type Topic } from "#platform/events/event-log.ts";
import { partitionOf } from "#platform/events/partition.ts";
import { Membership, type PartitionAppend } from "#platform/events/postgres-membership.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { encodeRecordBatch } from "#platform/events/record-batch.ts";
import type { EventTimings } from "#platform/events/timings.ts";
import type { Wakeups } from "#platform/events/wakeups.ts";
import type { Database } from "#platform/postgres/database.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/** A row of the log holds at most so much, so that a fetch has a bound. */
const RECORDS_A_ROW = 512;
const BYTES_A_ROW = 1024 * 1024;
const ROWS_A_PRUNING = 500;

export type PostgresLogOptions = {
  /** A database of its own, with migrations/. */
  readonly database: Database;
  readonly logger: Log;
  readonly metrics: Metrics;
  readonly timings: EventTimings;
  /** Without it, other processes learn of appends by their slow poll. */
  readonly wakeups?: Wakeups | undefined;
};

export type PostgresLog = EventLog & {
  /** Deletes records that are past their topic's retention and behind every group; returns how many rows went. */
  prune(): Promise<number>;
};

/** The log as tables in PostgreSQL. */
export function openPostgresLog({ database, logger, metrics, timings, wakeups }: PostgresLogOptions): PostgresLog {
  const partitionIds = new Map<string, readonly number[]>();
  const membership = new Membership({ database, logger, metrics, timings, prune: () => prune(database) });
  wakeups?.on("log", () => void membership.look());

  const partitionsOf = async (record: EventRecord): Promise<readonly number[]> => {
    const known = partitionIds.get(record.topic);
    if (known !== undefined) return known;
    const { rows } = await database.query<{ id: number }>({
      text: "SELECT id FROM partitions WHERE topic = $1 ORDER BY partition",
      values: [record.topic],
    });
    if (rows.length === 0) throw new RecordRefusedError(record, `there is no topic ${record.topic}`);
    const ids = rows.map((row) => row.id);
    partitionIds.set(record.topic, ids);
    return ids;
  };

  return {
    serverId: database.serverId,

    ensureTopics: (topics) => ensureTopics(database, topics),

    async publish(records, { durable = true } = {}) {
      const byPartition = new Map<number, EventRecord[]>();
      for (const record of records) {
        if (record.payload.length > PAYLOAD_BYTES_MAX) throw new RecordRefusedError(record, "its payload is too large");
        const ids = partitionIds.get(record.topic) ?? (await partitionsOf(record));
        const id = ids[partitionOf(record.key, ids.length)] as number;
        const others = byPartition.get(id);
        if (others === undefined) byPartition.set(id, [record]);
        else others.push(record);
      }
      if (byPartition.size === 0) return;
      const appends = await append(database, byPartition, { member: membership.self, durable });
      if (appends.length !== byPartition.size) {
        partitionIds.clear();
        throw new Error("the log's partitions are not those that were known: it was made anew");
      }
      for (const one of appends) membership.appended(one);
      if (membership.hasOthers()) wakeups?.notify("log");
    },

    subscribe: (options) => membership.subscribe(options),
    lag: () => lag(database),
    prune: () => prune(database),
    close: () => membership.close(),
  };
}

async function ensureTopics(database: Database, topics: readonly Topic[]): Promise<void> {
  for (const { name, partitions, retentionMs } of topics) {
    await database.transaction(async (tx) => {
      await tx.query({
        text: `INSERT INTO topics (name, partitions, retention_ms) VALUES ($1, $2, $3)
               ON CONFLICT (name) DO UPDATE SET retention_ms = excluded.retention_ms`,
        values: [name, partitions, retentionMs],
      });
      const { rows } = await tx.query<{ partitions: number }>({ text: "SELECT partitions FROM topics WHERE name = $1", values: [name] });
      // More partitions would put a key's later events elsewhere than its earlier ones, and so break their order.
      if (rows[0]?.partitions !== partitions)
        throw new Error(`topic ${name} has ${rows[0]?.partitions} partitions in the log and ${partitions} in the contract`);
      await tx.query({
        text: "INSERT INTO partitions (topic, partition) SELECT $1, generate_series(0, $2 - 1) ON CONFLICT DO NOTHING",
        values: [name, partitions],
      });
    });
  }
}

/**
 * One statement, so one round trip: locks the partitions in the order of ids, raises their offsets, inserts the rows, and tells
 * which leases on them the member held meanwhile.
 */
async function append(
  database: Database,
  byPartition: ReadonlyMap<number, readonly EventRecord[]>,
  { member, durable }: { readonly member: string; readonly durable: boolean },
): Promise<PartitionAppend[]> {
  const rows = [...byPartition].flatMap(([id, records]) => {
    let before = 0;
    return chunks(records).map((chunk) => {
      const row = { id, before, chunk, bytes: encodeRecordBatch(chunk) };
      before += chunk.length;
      return row;
    });
  });
  const answer = await database.query<{ id: number; base: bigint; next_offset: bigint; leases: string[] }>({
    name: "log append",
    text: `WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', CASE WHEN $5 THEN current_setting('synchronous_commit') ELSE 'off' END, true)),
           rows AS MATERIALIZED (SELECT r.* FROM quick, unnest($1::int[], $2::int[], $3::int[], $4::bytea[]) AS r (id, before, count, records)),
           locked AS MATERIALIZED (SELECT id FROM partitions WHERE id IN (SELECT id FROM rows) ORDER BY id FOR NO KEY UPDATE),
           added AS (SELECT id, sum(count) AS count FROM rows GROUP BY id),
           raised AS (UPDATE partitions p SET next_offset = p.next_offset + a.count FROM locked l JOIN added a USING (id)
                      WHERE p.id = l.id RETURNING p.id, p.next_offset, p.next_offset - a.count AS base),
           inserted AS (INSERT INTO log (partition_id, last_offset, count, records)
                        SELECT id, m.base + r.before + r.count - 1, r.count, r.records FROM raised m JOIN rows r USING (id))
           SELECT id, base, next_offset,
                  ARRAY(SELECT l.group_id || ' ' || l.generation FROM leases l WHERE l.partition_id = m.id AND l.member = $6) AS leases
           FROM raised m`,
    values: [
      rows.map((row) => row.id),
      rows.map((row) => row.before),
      rows.map((row) => row.chunk.length),
      rows.map((row) => row.bytes),
      durable,
      member,
    ],
  });
  return answer.rows.map(({ id, base, next_offset: nextOffset, leases }) => ({
    partitionId: id,
    nextOffset,
    rows: rows.filter((row) => row.id === id).map(({ before, chunk }) => ({ base: base + BigInt(before), records: chunk })),
    leases,
  }));
}

function chunks(records: readonly EventRecord[]): EventRecord[][] {
  const result: EventRecord[][] = [];
  let bytes = 0;
  for (const record of records) {
    const last = result.at(-1);
    if (last === undefined || last.length >= RECORDS_A_ROW || bytes + record.payload.length > BYTES_A_ROW) {
      result.push([record]);
      bytes = record.payload.length;
    } else {
      last.push(record);
      bytes += record.payload.length;
    }
  }
  return result;
}

async function lag(database: Database): Promise<Lag[]> {
  const { rows } = await database.query<{ group: string; topic: string; partition: number; events: bigint }>({
    text: `SELECT g.name AS "group", p.topic, p.partition, greatest(p.next_offset - o.position, 0) AS events
           FROM positions o JOIN groups g ON g.id = o.group_id JOIN partitions p ON p.id = o.partition_id
           ORDER BY g.name, p.topic, p.partition`,
  });
  return rows;
}

async function prune(database: Database): Promise<number> {
  for (let pruned = 0; ; ) {
    const { rowCount } = await database.query({
      text: `WITH old AS (
               SELECT first.partition_id, first.last_offset FROM partitions p JOIN topics t ON t.name = p.topic,
               LATERAL (SELECT l.partition_id, l.last_offset, l.appended_at FROM log l
                        WHERE l.partition_id = p.id
                          AND l.last_offset < coalesce((SELECT min(o.position) FROM positions o WHERE o.partition_id = p.id), p.next_offset)
                        ORDER BY l.last_offset LIMIT $1) first
               WHERE first.appended_at < clock_timestamp() - t.retention_ms * interval '1 ms'
               LIMIT $1)
             DELETE FROM log USING old WHERE log.partition_id = old.partition_id AND log.last_offset = old.last_offset`,
      values: [ROWS_A_PRUNING],
    });
    pruned += rowCount;
    if (rowCount < ROWS_A_PRUNING) return pruned;
  }
}
