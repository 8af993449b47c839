import type { GuardStatement } from "#platform/events/apply.ts";
import { FencedError } from "#platform/events/event-log.ts";
import type { Database } from "#platform/postgres/database.ts";

/** A partition of a group. */
export type FencedPlace = { readonly groupId: number; readonly topic: string; readonly partition: number };

/** The same as one member holds it: each holder's generation is higher than that of the one before. */
export type Fence = FencedPlace & { readonly generation: bigint };

const PATIENCE_MS = 150;

/**
 * Shuts out whoever held the partition before; once for each time that a member gets it. The member that its log confirms
 * after it has read the fence may raise that very fence: who got the partition later finds it raised, or raises it again; one
 * that was frozen in between finds another fence than it has read. Throws FencedError where somebody was quicker, and what
 * `confirm` throws.
 */
export async function raiseFence(database: Database, place: FencedPlace, confirm: () => Promise<void>): Promise<Fence> {
  const { groupId, topic, partition } = place;
  const { rows } = await database.query<{ generation: bigint }>({
    text: "SELECT generation FROM fences WHERE group_id = $1 AND topic = $2 AND partition = $3",
    values: [groupId, topic, partition],
  });
  const before = rows[0]?.generation ?? 0n;
  await confirm();
  // Who holds it may be frozen in the midst of a batch; waiting for that, the fences of a group would take every connection.
  const raise = {
    text: `INSERT INTO fences (group_id, topic, partition, generation) VALUES ($1, $2, $3, $4::bigint + 1)
           ON CONFLICT (group_id, topic, partition) DO UPDATE SET generation = excluded.generation WHERE fences.generation = $4`,
    values: [groupId, topic, partition, before],
  };
  const { rowCount } = await database.transaction((tx) => tx.query(raise), { lockPatienceMs: PATIENCE_MS });
  if (rowCount !== 1) throw new FencedError(`${topic}/${partition} was taken by another member meanwhile`);
  return { ...place, generation: before + 1n };
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
