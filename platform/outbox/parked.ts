import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import type { EventRecord } from "#platform/events/record.ts";
import { decodeRecordBatch, encodeRecordBatch } from "#platform/events/record-batch.ts";
import type { Database, Rows, Sql, Statement } from "#platform/postgres/database.ts";
import { storableCause } from "#platform/postgres/storable-text.ts";

/*
 * Statements of what a service's outbox holds back: events that the log refused, and what came behind them under the same topic
 * and key (migrations/0001-outbox.sql).
 *
 * The relay that has the lease alone adds rows; others only mark them, or remove them by hand. An asking is for a key and not for
 * the rows that it happens to have: the relay carries it over to what it has parked behind them since (`readAskedFor`).
 */

/** A record that was refused, with its cause, or one that waits behind it. */
export type Parked = { readonly record: EventRecord; readonly cause: string | undefined };

export const parkRecords = (parked: readonly Parked[]): Statement[] =>
  parked.map(({ record, cause }) => ({
    name: "outbox park",
    text: "INSERT INTO outbox_parked (topic, key, event_id, cause, record) VALUES ($1, $2, $3, $4, $5)",
    values: [record.topic, record.key, record.eventId, cause === undefined ? null : storableCause(cause), encodeRecordBatch([record])],
  }));

/** `version` changes whenever somebody asks. */
export type ParkedRow = { readonly id: bigint; readonly version: string; readonly record: EventRecord };

const PARKED_A_STEP = 256;

const COVER_KEYS: Statement = {
  name: "outbox cover keys",
  text: `UPDATE outbox_parked SET retry = true
         WHERE NOT retry AND (topic, key) IN (SELECT topic, key FROM outbox_parked WHERE retry)`,
};

const READ_ASKED_FOR: Statement = {
  name: "outbox asked for",
  text: `SELECT id, xmin::text AS version, record FROM outbox_parked WHERE retry ORDER BY id LIMIT ${PARKED_A_STEP}`,
};

/**
 * What is parked under the keys that were asked for, the first of it in order. All rows of these keys are marked by then, so that
 * none is left behind when those before it are gone.
 */
export async function readAskedFor(database: Database): Promise<ParkedRow[]> {
  const [, { rows }] = (await database.queryAll([COVER_KEYS, READ_ASKED_FOR])) as [
    Rows<never>,
    Rows<{ id: bigint; version: string; record: Buffer }>,
  ];
  return rows.map(({ id, version, record }) => ({ id, version, record: recordOf(record) }));
}

/** How many events are parked under each topic and key. */
export async function parkedByKey(sql: Sql): Promise<(Pick<EventRecord, "topic" | "key"> & { readonly events: number })[]> {
  const { rows } = await sql.query<{ topic: string; key: string; events: number }>({
    name: "outbox parked",
    text: "SELECT topic, key, count(*)::int AS events FROM outbox_parked GROUP BY topic, key",
  });
  return rows;
}

/** Keeps why a row was refused once more, and leaves its key parked until somebody asks again; unless somebody has since it was read. */
export const keepParked = ({ id, version }: ParkedRow, cause: string): Statement => ({
  text: `WITH refused AS (SELECT topic, key FROM outbox_parked WHERE id = $1 AND xmin = $2::xid FOR UPDATE)
         UPDATE outbox_parked p SET retry = false, cause = CASE WHEN p.id = $1 THEN $3 ELSE p.cause END
         FROM refused r WHERE p.topic = r.topic AND p.key = r.key AND p.retry`,
  values: [id, version, storableCause(cause)],
});

export const deleteParked = ({ id }: ParkedRow): Statement => ({ text: "DELETE FROM outbox_parked WHERE id = $1", values: [id] });

/** Tells the relay to publish once more what is parked, all or one key, once the log takes it; returns how many events that is. */
export async function retryParked(database: Database, { key }: { readonly key?: string | undefined } = {}): Promise<number> {
  return database.transaction(async (tx) => {
    // Those that are marked as well: a relay may be about to give them up.
    const { rowCount } = await tx.query({
      text: "UPDATE outbox_parked SET retry = true WHERE $1::text IS NULL OR key = $1",
      values: [key ?? null],
    });
    return rowCount;
  });
}

/** An event that is held back, without what may be personal. */
export type ParkedEvent = Pick<EventRecord, "topic" | "key" | "eventId" | "type"> & {
  readonly occurredAt: Date;
  readonly parkedAt: Date;
  /** `asked`: the relay is about to try it. */
  readonly state: "refused" | "waiting" | "asked";
  readonly cause: string | undefined;
};

/** Lists what is parked, all or one key, key by key in its order. */
export async function listParked(
  sql: Sql,
  { key, limit }: { readonly key?: string | undefined; readonly limit: number },
): Promise<ParkedEvent[]> {
  const { rows } = await sql.query<{ cause: string | null; parked_at: Timestamp; retry: boolean; record: Buffer }>({
    text: `SELECT cause, parked_at, retry, record FROM outbox_parked
           WHERE $1::text IS NULL OR key = $1 ORDER BY topic, key, id LIMIT $2`,
    values: [key ?? null, limit],
  });
  return rows.map(({ cause, parked_at, retry, record }) =>
    describe(recordOf(record), { cause, parkedAt: timestampDate(parked_at), retry }),
  );
}

function describe(
  { topic, key, eventId, type, occurredAtMs }: EventRecord,
  { cause, parkedAt, retry }: { readonly cause: string | null; readonly parkedAt: Date; readonly retry: boolean },
): ParkedEvent {
  const state = retry ? "asked" : cause === null ? "waiting" : "refused";
  return { topic, key, eventId, type, occurredAt: new Date(occurredAtMs), parkedAt, state, cause: cause ?? undefined };
}

const recordOf = (bytes: Buffer): EventRecord => decodeRecordBatch(bytes)[0] as EventRecord;
