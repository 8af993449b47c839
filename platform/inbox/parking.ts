import type { EventRecord } from "#platform/events/record.ts";
import { decodeRecordBatch, encodeRecordBatch } from "#platform/events/record-batch.ts";
import type { FencedPlace } from "#platform/inbox/fence.ts";
import { inboxId } from "#platform/inbox/inbox.ts";
import type { Sql, Statement } from "#platform/postgres/database.ts";

/*
 * The rows of dead_letters as the consumer that holds their partition writes them, always behind its fence. Only that
 * consumer adds rows; others (dead-letters.ts) only mark or remove. So the keys that it knows to have rows are all there are.
 * The first row of a key is `retrying` or `dead`, those behind it are `waiting`.
 */

export type ParkedState = "retrying" | "dead" | "waiting";

export type Parking = {
  readonly record: EventRecord;
  readonly state: ParkedState;
  readonly tries: number;
  /** When it is tried again, for `retrying`. */
  readonly afterMs: number;
  readonly cause: string | undefined;
};

/** Parks events in this order; one that is parked already stays as it is. */
export const parkEvents = ({ groupId, topic, partition }: FencedPlace, parked: readonly Parking[]): Statement => ({
  name: "park",
  text: `INSERT INTO dead_letters (group_id, topic, partition, key, event_id, state, tries, next_try_at, cause, record)
         SELECT $1, $2, $3, u.key, u.event_id, u.state, u.tries, clock_timestamp() + u.after_ms * interval '1 ms', u.cause, u.record
         FROM unnest($4::text[], $5::uuid[], $6::text[], $7::int[], $8::float8[], $9::text[], $10::bytea[])
           WITH ORDINALITY AS u (key, event_id, state, tries, after_ms, cause, record, place)
         ORDER BY u.place ON CONFLICT (group_id, event_id) DO NOTHING`,
  values: [
    groupId,
    topic,
    partition,
    parked.map(({ record }) => record.key),
    parked.map(({ record }) => inboxId(record)),
    parked.map(({ state }) => state),
    parked.map(({ tries }) => tries),
    parked.map(({ afterMs }) => afterMs),
    parked.map(({ cause }) => cause ?? null),
    parked.map(({ record }) => encodeRecordBatch([record])),
  ],
});

/** What became of a further try of a parked event. */
export const updateParked = (id: bigint, { state, tries, afterMs, cause }: Omit<Parking, "record">): Statement => ({
  name: "park again",
  text: "UPDATE dead_letters SET state = $2, tries = $3, next_try_at = clock_timestamp() + $4 * interval '1 ms', cause = $5 WHERE id = $1",
  values: [id, state, tries, afterMs, cause ?? null],
});

export const deleteParkedRows = (ids: readonly bigint[]): Statement => ({
  name: "unpark",
  text: "DELETE FROM dead_letters WHERE id = ANY($1::bigint[])",
  values: [ids],
});

/** Locks rows that are about to be handled: gives fewer of them where somebody has dropped one meanwhile. */
export const lockParkedRows = (ids: readonly bigint[]): Statement => ({
  name: "lock parked",
  text: "SELECT id FROM dead_letters WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE",
  values: [ids],
});

/** The keys of the partition that have rows. */
export async function parkedKeys(sql: Sql, { groupId, topic, partition }: FencedPlace): Promise<Set<string>> {
  const { rows } = await sql.query<{ key: string }>({
    text: "SELECT DISTINCT key FROM dead_letters WHERE group_id = $1 AND topic = $2 AND partition = $3",
    values: [groupId, topic, partition],
  });
  return new Set(rows.map((row) => row.key));
}

/** Those of `keys` that have rows. */
export async function keysWithRows(sql: Sql, { groupId, topic, partition }: FencedPlace, keys: readonly string[]): Promise<Set<string>> {
  const { rows } = await sql.query<{ key: string }>({
    name: "parked keys",
    text: `SELECT k.key FROM unnest($4::text[]) AS k (key) WHERE EXISTS (
             SELECT FROM dead_letters d WHERE d.group_id = $1 AND d.topic = $2 AND d.partition = $3 AND d.key = k.key)`,
    values: [groupId, topic, partition, keys],
  });
  return new Set(rows.map((row) => row.key));
}

/**
 * Has what is first of its key tried at once if it waited behind something: sent with whatever may have taken away what was
 * before it, or have parked it behind nothing. So only `retrying` has to be looked for.
 */
export const promoteFirst = ({ groupId, topic, partition }: FencedPlace, keys: readonly string[]): Statement => ({
  name: "promote parked",
  text: `UPDATE dead_letters d SET state = 'retrying', next_try_at = clock_timestamp()
         FROM unnest($4::text[]) AS k (key), LATERAL (
           SELECT id, state FROM dead_letters
           WHERE group_id = $1 AND topic = $2 AND partition = $3 AND key = k.key ORDER BY id LIMIT 1) first
         WHERE d.id = first.id AND first.state = 'waiting'`,
  values: [groupId, topic, partition, [...new Set(keys)]],
});

/** Has a row tried later: a neighbour is away. */
export const postponeParked = (id: bigint, afterMs: number): Statement => ({
  name: "postpone parked",
  text: "UPDATE dead_letters SET next_try_at = clock_timestamp() + $2 * interval '1 ms' WHERE id = $1",
  values: [id, afterMs],
});

/** The first row of a key, whose time has come. */
export type ParkedHead = { readonly id: bigint; readonly key: string; readonly tries: number; readonly record: EventRecord };

const HEADS_A_STEP = 256;

/** First rows whose time has come, the longest due first; and whether there are others that are to be tried. */
export async function dueHeads(sql: Sql, { groupId, topic, partition }: FencedPlace): Promise<{ due: ParkedHead[]; retrying: boolean }> {
  const { rows } = await sql.query<Omit<ParkedHead, "record"> & { record: Buffer | null }>({
    name: "due heads",
    text: `SELECT id, key, tries, CASE WHEN next_try_at <= now() THEN record END AS record FROM dead_letters
           WHERE group_id = $1 AND topic = $2 AND partition = $3 AND state = 'retrying' ORDER BY next_try_at LIMIT ${HEADS_A_STEP}`,
    values: [groupId, topic, partition],
  });
  const due = rows.flatMap(({ record, ...row }) =>
    record === null ? [] : [{ ...row, record: decodeRecordBatch(record)[0] as EventRecord }],
  );
  return { due, retrying: rows.length > 0 };
}

/** The state of a key's first row; undefined where it has none. */
export async function headState(sql: Sql, { groupId, topic, partition }: FencedPlace, key: string): Promise<ParkedState | undefined> {
  const { rows } = await sql.query<{ state: ParkedState }>({
    text: "SELECT state FROM dead_letters WHERE group_id = $1 AND topic = $2 AND partition = $3 AND key = $4 ORDER BY id LIMIT 1",
    values: [groupId, topic, partition, key],
  });
  return rows[0]?.state;
}
