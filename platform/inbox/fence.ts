import type { GuardStatement } from "#platform/events/apply.ts";
import { FencedError } from "#platform/events/event-log.ts";
import type { Database } from "#platform/postgres/database.ts";

/** A partition of a group, as one member holds it. */
export type Fence = { readonly groupId: number; readonly topic: string; readonly partition: number; readonly generation: bigint };

const PATIENCE_MS = 150;

/** Shuts out every member of a lower generation; once for each partition that a member gets. Throws FencedError if it is itself shut out. */
export async function raiseFence(database: Database, { groupId, topic, partition, generation }: Fence): Promise<void> {
  // Who holds it may be frozen in the midst of a batch; waiting for that, the fences of a group would take every connection.
  const raise = {
    text: `INSERT INTO fences (group_id, topic, partition, generation) VALUES ($1, $2, $3, $4)
           ON CONFLICT (group_id, topic, partition) DO UPDATE SET generation = excluded.generation
           WHERE fences.generation <= excluded.generation`,
    values: [groupId, topic, partition, generation],
  };
  const { rowCount } = await database.transaction((tx) => tx.query(raise), { lockPatienceMs: PATIENCE_MS });
  if (rowCount !== 1) throw new FencedError(`${topic}/${partition} is held under a generation above ${generation}`);
}

/** The first statement of every write for a partition; it keeps the fence as it is until the write is committed. */
export const fenceGuard = ({ groupId, topic, partition, generation }: Fence): GuardStatement => ({
  name: "fence",
  text: "SELECT generation FROM fences WHERE group_id = $1 AND topic = $2 AND partition = $3 FOR NO KEY UPDATE",
  values: [groupId, topic, partition],
  check({ rows }) {
    const found = rows[0]?.generation as bigint | undefined;
    if (found !== generation) throw new FencedError(`${topic}/${partition} is held under generation ${found}, not ${generation}`);
  },
});
