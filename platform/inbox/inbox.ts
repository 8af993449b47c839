import type { EventRecord } from "#platform/events/record.ts";
import { derivedUuid, isUuid } from "#platform/ids.ts";
import type { Sql, Statement } from "#platform/postgres/database.ts";

/** What the inbox knows an event by: its id, or, where a foreign publisher's id is no UUID, one derived from it. */
export const inboxId = ({ eventId }: Pick<EventRecord, "eventId">): string => (isUuid(eventId) ? eventId : derivedUuid(eventId));

/** The group's number in this database; given to it at its first start. */
export async function inboxGroup(sql: Sql, group: string): Promise<number> {
  const read = { text: "SELECT id FROM inbox_groups WHERE name = $1", values: [group] };
  const found = await sql.query<{ id: number }>(read);
  if (found.rows[0] !== undefined) return found.rows[0].id;
  await sql.query({ text: "INSERT INTO inbox_groups (name) VALUES ($1) ON CONFLICT DO NOTHING", values: [group] });
  return (await sql.query<{ id: number }>(read)).rows[0]?.id as number;
}

export const readHandled = (groupId: number, ids: readonly string[]): Statement => ({
  name: "inbox read",
  text: "SELECT event_id FROM inbox WHERE group_id = $1 AND event_id = ANY($2::uuid[])",
  values: [groupId, ids],
});

/** Those of `ids` that the group has handled. */
export async function handledIds(sql: Sql, groupId: number, ids: readonly string[]): Promise<Set<string>> {
  const { rows } = await sql.query<{ event_id: string }>(readHandled(groupId, ids));
  return new Set(rows.map((row) => row.event_id));
}

/** Not "on conflict do nothing": should an event be handled twice at once after all, one of the two must fail. */
export const insertHandled = (groupId: number, ids: readonly string[]): Statement => ({
  name: "inbox insert",
  text: "INSERT INTO inbox (group_id, event_id) SELECT $1, unnest($2::uuid[])",
  values: [groupId, [...ids].sort()],
});

/**
 * Deletes at most `limit` of what the group handled more than `olderThanMs` ago; the number deleted. Goes by the ids, which are UUIDv7
 * and so begin with their time: no second index. An id that isn't stays.
 */
export async function pruneInbox(sql: Sql, groupId: number, olderThanMs: number, limit: number): Promise<number> {
  const { rowCount } = await sql.query({
    text: `DELETE FROM inbox WHERE group_id = $1 AND event_id IN (
             SELECT event_id FROM inbox
             WHERE group_id = $1 AND handled_at < clock_timestamp() - $2 * interval '1 ms'
               AND event_id < (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000 - $2)::bigint), 12, '0') || repeat('0', 20))::uuid
             ORDER BY event_id LIMIT $3)`,
    values: [groupId, olderThanMs, limit],
  });
  return rowCount;
}
