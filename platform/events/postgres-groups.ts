import { noSuchGroup } from "#platform/events/define-consumer.ts";
import type { GroupStatus, Groups } from "#platform/events/event-log.ts";
import type { Database, Transaction } from "#platform/postgres/database.ts";

/*
 * The groups of the log as somebody sees them who runs none. A group that is no longer run, such as that of a consumer which got
 * another name, holds back pruning for ever.
 */

export const postgresGroups = (database: Database): Groups => ({
  list: () => listGroups(database),
  drop: (group) => dropGroup(database, group),
});

const MEMBERS = "(SELECT count(*)::int FROM members m WHERE g.id = ANY(m.groups) AND m.alive_until > clock_timestamp()) AS members";

async function listGroups(database: Database): Promise<GroupStatus[]> {
  const { rows } = await database.query<GroupStatus>({
    text: `SELECT g.name AS "group", ${MEMBERS},
             coalesce((SELECT sum(greatest(p.next_offset - o.position, 0)) FROM positions o JOIN partitions p ON p.id = o.partition_id
                       WHERE o.group_id = g.id), 0)::bigint AS lag
           FROM groups g ORDER BY g.name`,
  });
  return rows;
}

async function dropGroup(database: Database, group: string): Promise<void> {
  await database.transaction(async (tx) => {
    const { rows } = await tx.query<{ id: number; members: number }>({
      text: `SELECT id, ${MEMBERS} FROM groups g WHERE name = $1 FOR UPDATE`,
      values: [group],
    });
    const found = rows[0];
    if (found === undefined) throw noSuchGroup(group, await namesOf(tx));
    if (found.members > 0) throw new Error(`group ${group} is being run; stop it first`);
    for (const table of ["leases", "positions"]) await tx.query({ text: `DELETE FROM ${table} WHERE group_id = $1`, values: [found.id] });
    await tx.query({ text: "DELETE FROM groups WHERE id = $1", values: [found.id] });
  });
}

async function namesOf(tx: Transaction): Promise<string[]> {
  const { rows } = await tx.query<{ name: string }>({ text: "SELECT name FROM groups" });
  return rows.map(({ name }) => name);
}
