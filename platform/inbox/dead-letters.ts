import { type DescMessage, fromBinary, type JsonValue } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { maskedJson } from "#platform/contract/mask-personal.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { decodeRecordBatch } from "#platform/events/record-batch.ts";
import { inboxId } from "#platform/inbox/inbox.ts";
import { type ParkedState, promoteFirst } from "#platform/inbox/parking.ts";
import type { Database, Transaction } from "#platform/postgres/database.ts";

/** A parked event, without what may be personal. */
export type DeadLetter = {
  readonly group: string;
  readonly topic: string;
  readonly partition: number;
  readonly key: string;
  readonly eventId: string;
  readonly type: string;
  readonly occurredAt: Date;
  readonly parkedAt: Date;
  readonly state: ParkedState;
  /** How often it was tried since it was parked or last replayed. */
  readonly tries: number;
  readonly cause: string | undefined;
};

export type ShownDeadLetter = DeadLetter & {
  readonly traceparent: string;
  readonly actor: string;
  readonly causationId: string;
  /** Personal fields masked; undefined where the payload can't be decoded. */
  readonly event: JsonValue | undefined;
  readonly payloadBytes: number;
};

/** What to act on: a group, or one key of it. */
export type DeadLetterFilter = { readonly group?: string | undefined; readonly key?: string | undefined };

type Row = Omit<DeadLetter, "cause" | "parkedAt" | "occurredAt" | "eventId" | "type"> & {
  cause: string | null;
  parked_at: Timestamp;
  record: Buffer;
};

const COLUMNS = "g.name AS group, d.topic, d.partition, d.key, d.state, d.tries, d.cause, d.parked_at, d.record";

/** Lists parked events of a service, key by key in order, at most `limit` after the first `offset`. */
export async function listDeadLetters(
  database: Database,
  filter: DeadLetterFilter & { readonly limit?: number; readonly offset?: number } = {},
): Promise<DeadLetter[]> {
  const { rows } = await database.query<Row>({
    text: `SELECT ${COLUMNS} FROM dead_letters d JOIN inbox_groups g ON g.id = d.group_id
           WHERE ($1::text IS NULL OR g.name = $1) AND ($2::text IS NULL OR d.key = $2)
           ORDER BY g.name, d.topic, d.partition, d.key, d.id LIMIT $3 OFFSET $4`,
    values: [filter.group ?? null, filter.key ?? null, filter.limit ?? 100, filter.offset ?? 0],
  });
  return rows.map((row) => describe(row, recordOf(row)));
}

/** Shows one parked event; undefined where the group has none with this id. `schemas` are the events that can be decoded. */
export async function showDeadLetter(
  database: Database,
  { group, eventId }: { readonly group: string; readonly eventId: string },
  schemas: readonly DescMessage[],
): Promise<ShownDeadLetter | undefined> {
  const { rows } = await database.query<Row>({
    text: `SELECT ${COLUMNS} FROM dead_letters d JOIN inbox_groups g ON g.id = d.group_id WHERE g.name = $1 AND d.event_id = $2`,
    values: [group, inboxId({ eventId })],
  });
  const row = rows[0];
  if (row === undefined) return undefined;
  const record = recordOf(row);
  const { traceparent, actor, causationId, payload } = record;
  const schema = schemas.find((candidate) => candidate.typeName === record.type);
  return { ...describe(row, record), traceparent, actor, causationId, event: eventJson(schema, payload), payloadBytes: payload.length };
}

/**
 * Asks for dead events of a group to be tried again, all or those of one key; returns of how many keys. The consumer that
 * holds the partition then drains each key in order, up to the first event that fails again.
 */
export async function replayDeadLetters(database: Database, { group, key }: { group: string; key?: string | undefined }): Promise<number> {
  const { rowCount } = await database.query({
    text: `UPDATE dead_letters d SET state = 'retrying', tries = 0, next_try_at = clock_timestamp()
           FROM inbox_groups g WHERE g.id = d.group_id AND g.name = $1 AND d.state = 'dead' AND ($2::text IS NULL OR d.key = $2)`,
    values: [group, key ?? null],
  });
  return rowCount;
}

/**
 * Drops one parked event, or all of a key, for good: should it come again, it counts as handled. What waits behind it goes on.
 * Returns how many went.
 */
export async function dropDeadLetters(
  database: Database,
  what: { readonly group: string } & (
    | { readonly eventId: string; readonly key?: never }
    | { readonly key: string; readonly eventId?: never }
  ),
): Promise<number> {
  return database.transaction(async (tx) => {
    const chosen = { eventId: what.eventId === undefined ? null : inboxId({ eventId: what.eventId }), key: what.key ?? null };
    await lockFences(tx, what.group, chosen);
    const { rows } = await tx.query<{ groupId: number; topic: string; partition: number; key: string; dropped: number }>({
      text: `WITH gone AS (
               DELETE FROM dead_letters d USING inbox_groups g
               WHERE g.id = d.group_id AND g.name = $1 AND (d.event_id = $2::uuid OR d.key = $3) RETURNING d.*),
             handled AS (INSERT INTO inbox (group_id, event_id) SELECT group_id, event_id FROM gone ON CONFLICT DO NOTHING)
             SELECT group_id AS "groupId", topic, partition, key, count(*)::int AS dropped FROM gone GROUP BY group_id, topic, partition, key`,
      values: [what.group, chosen.eventId, chosen.key],
    });
    for (const row of rows) await tx.query(promoteFirst(row, [row.key]));
    return rows.reduce((sum, row) => sum + row.dropped, 0);
  });
}

/** Waits until no consumer is in the middle of a write for these events' partitions. */
async function lockFences(tx: Transaction, group: string, { eventId, key }: { eventId: string | null; key: string | null }): Promise<void> {
  await tx.query({
    text: `SELECT 1 FROM fences f WHERE (f.group_id, f.topic, f.partition) IN (
             SELECT d.group_id, d.topic, d.partition FROM dead_letters d JOIN inbox_groups g ON g.id = d.group_id
             WHERE g.name = $1 AND (d.event_id = $2::uuid OR d.key = $3))
           ORDER BY f.group_id, f.topic, f.partition FOR NO KEY UPDATE`,
    values: [group, eventId, key],
  });
}

/** How many events of a group are parked, by state. */
export async function countParked(database: Database, groupId: number): Promise<Record<ParkedState, number>> {
  const { rows } = await database.query<{ state: ParkedState; count: number }>({
    text: "SELECT state, count(*)::int AS count FROM dead_letters WHERE group_id = $1 GROUP BY state",
    values: [groupId],
  });
  return { retrying: 0, dead: 0, waiting: 0, ...Object.fromEntries(rows.map((row) => [row.state, row.count])) };
}

const recordOf = (row: Row): EventRecord => decodeRecordBatch(row.record)[0] as EventRecord;

function describe(row: Row, { eventId, type, occurredAtMs }: EventRecord): DeadLetter {
  const { group, topic, partition, key, state, tries } = row;
  const occurredAt = new Date(occurredAtMs);
  return {
    group,
    topic,
    partition,
    key,
    eventId,
    type,
    occurredAt,
    parkedAt: timestampDate(row.parked_at),
    state,
    tries,
    cause: row.cause ?? undefined,
  };
}

function eventJson(schema: DescMessage | undefined, payload: Uint8Array): JsonValue | undefined {
  if (schema === undefined) return undefined;
  try {
    return maskedJson(schema, fromBinary(schema, payload));
  } catch {
    // Undecodable is one of the reasons for which events are here.
    return undefined;
  }
}
