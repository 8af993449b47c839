import type { QueryResultRow } from "pg";
import { assertPublishable } from "#platform/events/event-types.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { decodeRecordBatch, encodeRecordBatch } from "#platform/events/record-batch.ts";
import type { Database, Rows, Sql, Statement, Transaction } from "#platform/postgres/database.ts";

/*
 * Statements of the outbox, a service's events on their way to the log (migrations/0001-outbox.sql).
 *
 * Never read by "id greater than the last one seen": a transaction that took its id first may commit last. The relay reads
 * whatever is visible and deletes exactly what it has published.
 */

/**
 * Puts the events of one transaction into the outbox. Sent after the rows' locks: what gets a lock later gets a higher id, so
 * events of one key lie in the order in which their rows changed. Throws where a record is too large to be published.
 */
export function outboxInsert(records: readonly EventRecord[]): Statement {
  records.forEach(assertPublishable);
  return {
    name: "outbox insert",
    text: "INSERT INTO outbox (count, records) VALUES ($1, $2)",
    values: [records.length, encodeRecordBatch(records)],
  };
}

export type OutboxRow = { readonly id: bigint; readonly records: EventRecord[] };

const ROWS_A_ROUND = 256;
const BYTES_A_ROUND = 4 * 1024 * 1024;

/** The first rows that are visible now, as many as a round takes; at least one, where there is one. */
export const readRows = (): Statement => ({
  name: "outbox read",
  text: `SELECT id, records FROM (
           SELECT id, records, sum(octet_length(records)) OVER (ORDER BY id) - octet_length(records) AS before
           FROM (SELECT id, records FROM outbox ORDER BY id LIMIT ${ROWS_A_ROUND}) first
         ) counted WHERE before < ${BYTES_A_ROUND} ORDER BY id`,
});

/** What `readRows` is answered with. */
export const outboxRows = ({ rows }: Rows<QueryResultRow>): OutboxRow[] =>
  (rows as { id: bigint; records: Buffer }[]).map(({ id, records }) => ({ id, records: decodeRecordBatch(records) }));

/**
 * Deletes rows that were published, and reads the next ones, in one round trip. Throws LeaseLostError, and then nothing was
 * deleted, where the lease is another's.
 */
export async function takeNextRows(database: Database, published: readonly bigint[], token: string): Promise<OutboxRow[]> {
  if (published.length === 0) return outboxRows(await database.query(readRows()));
  const [deleted, next] = (await database.queryAll([deleteRows(published, token), readRows()])) as [Rows<never>, Rows<QueryResultRow>];
  if (deleted.rowCount !== published.length) throw new LeaseLostError("the outbox's lease was lost");
  return outboxRows(next);
}

/** Takes the lease if it is free, has ended, or is this relay's own. */
export async function takeLease(database: Database, token: string, leaseMs: number): Promise<boolean> {
  const { rowCount } = await database.query({
    name: "outbox lease",
    text: `INSERT INTO outbox_lease (token, lease_until) VALUES ($1, clock_timestamp() + $2 * interval '1 ms')
           ON CONFLICT (singleton) DO UPDATE SET token = excluded.token, lease_until = excluded.lease_until
           WHERE outbox_lease.token = excluded.token OR outbox_lease.lease_until < clock_timestamp()`,
    values: [token, leaseMs],
  });
  return rowCount === 1;
}

/** Makes a lease that is still this relay's last longer; false where it is another's by now. */
export async function renewLease(database: Database, token: string, leaseMs: number): Promise<boolean> {
  const { rowCount } = await database.query({
    name: "outbox renew",
    text: "UPDATE outbox_lease SET lease_until = clock_timestamp() + $2 * interval '1 ms' WHERE token = $1",
    values: [token, leaseMs],
  });
  return rowCount === 1;
}

export async function releaseLease(database: Database, token: string): Promise<void> {
  await database.query({ text: "DELETE FROM outbox_lease WHERE token = $1", values: [token] });
}

/** Another relay has the lease: this one may not delete. */
export class LeaseLostError extends Error {
  override readonly name = "LeaseLostError";
}

/** Locks the lease until the transaction ends, so that nobody takes it over meanwhile. Throws LeaseLostError. */
export async function lockLease(tx: Transaction, token: string): Promise<void> {
  const { rowCount } = await tx.query({
    name: "outbox lock",
    text: "SELECT 1 FROM outbox_lease WHERE token = $1 FOR SHARE",
    values: [token],
  });
  if (rowCount !== 1) throw new LeaseLostError("the outbox's lease was lost");
}

/**
 * Deletes these rows, or none if the lease is another's; the lease stays locked until they are gone. Doesn't wait for the disk:
 * a deletion that is lost in a crash is an event published twice.
 */
export const deleteRows = (ids: readonly bigint[], token: string): Statement => ({
  name: "outbox delete",
  text: `WITH lease AS (SELECT set_config('synchronous_commit', 'off', true) FROM outbox_lease WHERE token = $2 FOR SHARE)
         DELETE FROM outbox WHERE id = ANY($1::bigint[]) AND EXISTS (SELECT FROM lease)`,
  values: [ids, token],
});

/** How many events wait, and for how long the oldest has, in seconds. */
export async function outboxDepth(sql: Sql): Promise<{ events: number; ageSeconds: number }> {
  const { rows } = await sql.query<{ events: number; age: number }>({
    name: "outbox depth",
    text: "SELECT coalesce(sum(count), 0)::float8 AS events, coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS age FROM outbox",
  });
  return { events: rows[0]?.events ?? 0, ageSeconds: rows[0]?.age ?? 0 };
}
