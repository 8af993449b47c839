import type { EventRecord } from "#platform/events/record.ts";
import { decodeRecordBatch, encodeRecordBatch } from "#platform/events/record-batch.ts";
import type { Fence } from "#platform/inbox/fence.ts";
import { inboxId } from "#platform/inbox/inbox.ts";
import type { Sql, Statement } from "#platform/postgres/database.ts";

/*
 * The rows of dead_letters as the consumer that holds their partition writes them, always behind its fence. Only that
 * consumer adds rows; others (dead-letters.ts) only mark or remove. So the keys that it knows to have rows are all there are.
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
export const parkEvents = ({ groupId, topic, partition }: Fence, parked: readonly Parking[]): Statement => ({
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
export async function parkedKeys(sql: Sql, { groupId, topic, partition }: Fence): Promise<Set<string>> {
  const { rows } = await sql.query<{ key: string }>({
    text: "SELECT DISTINCT key FROM dead_letters WHERE group_id = $1 AND topic = $2 AND partition = $3",
    values: [groupId, topic, partition],
  });
  return new Set(rows.map((row) => row.key));
}

/** The first row of a key. */
export type ParkedHead = {
  readonly id: bigint;
  readonly key: string;
  readonly state: ParkedState;
  readonly tries: number;
  /** To be tried now. */
  readonly due: boolean;
  readonly record: EventRecord;
};

/** The first row of each of these keys that has one. */
export async function parkedHeads(sql: Sql, { groupId, topic, partition }: Fence, keys: readonly string[]): Promise<ParkedHead[]> {
  const { rows } = await sql.query<Omit<ParkedHead, "record"> & { record: Buffer }>({
    name: "parked heads",
    text: `SELECT d.id, k.key, d.state, d.tries, d.state = 'waiting' OR (d.state = 'retrying' AND d.next_try_at <= clock_timestamp()) AS due, d.record
           FROM unnest($4::text[]) AS k (key), LATERAL (
             SELECT id, state, tries, next_try_at, record FROM dead_letters
             WHERE group_id = $1 AND topic = $2 AND partition = $3 AND key = k.key ORDER BY id LIMIT 1) d`,
    values: [groupId, topic, partition, keys],
  });
  return rows.map((row) => ({ ...row, record: decodeRecordBatch(row.record)[0] as EventRecord }));
}
