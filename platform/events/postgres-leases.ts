import type { SubscribeOptions } from "#platform/events/event-log.ts";
import type { Holding } from "#platform/events/postgres-partition.ts";
import type { Database } from "#platform/postgres/database.ts";

export type Member = {
  readonly member: string;
  readonly groups: readonly number[];
  /** By `subscriptionName`; none of one whose code doesn't say. */
  readonly subscriptions: readonly string[];
};

/** That a member reads a topic in a group. */
export const subscriptionName = (groupId: number, topic: string): string => `${groupId} ${topic}`;

export type Lease = { readonly group_id: number; readonly partition_id: number; readonly member: string; readonly generation: bigint };
/** A group's id, and its partitions by their ids. */
export type JoinedGroup = {
  readonly id: number;
  readonly partitions: ReadonlyMap<number, { readonly topic: string; readonly partition: number }>;
};

/** Makes the group and its positions where they aren't there: it starts from the earliest record. */
export async function joinGroup(database: Database, { group, topics }: SubscribeOptions): Promise<JoinedGroup> {
  return database.transaction(async (tx) => {
    await tx.query({ text: "INSERT INTO groups (name) VALUES ($1) ON CONFLICT DO NOTHING", values: [group] });
    await tx.query({
      text: `INSERT INTO positions (group_id, partition_id, position)
             SELECT g.id, p.id, coalesce((SELECT l.last_offset - l.count + 1 FROM log l WHERE l.partition_id = p.id ORDER BY l.last_offset LIMIT 1), p.next_offset)
             FROM groups g, partitions p WHERE g.name = $1 AND p.topic = ANY($2::text[]) ORDER BY p.id ON CONFLICT DO NOTHING`,
      values: [group, topics],
    });
    const { rows } = await tx.query<{ group_id: number; id: number; topic: string; partition: number }>({
      text: "SELECT g.id AS group_id, p.id, p.topic, p.partition FROM groups g, partitions p WHERE g.name = $1 AND p.topic = ANY($2::text[]) ORDER BY p.id",
      values: [group, topics],
    });
    const missing = topics.find((topic) => !rows.some((row) => row.topic === topic));
    const id = rows[0]?.group_id;
    if (missing !== undefined || id === undefined) throw new Error(`${group}: there is no topic ${missing}`);
    return { id, partitions: new Map(rows.map((row) => [row.id, { topic: row.topic, partition: row.partition }])) };
  });
}

export async function heartbeat(database: Database, { member, groups, subscriptions }: Member, leaseMs: number): Promise<void> {
  await database.query({
    name: "log heartbeat",
    text: `INSERT INTO members (member, groups, subscriptions, alive_until) VALUES ($1, $2, $3, clock_timestamp() + $4 * interval '1 ms')
           ON CONFLICT (member) DO UPDATE
           SET groups = excluded.groups, subscriptions = excluded.subscriptions, alive_until = excluded.alive_until`,
    values: [member, groups, subscriptions, leaseMs],
  });
}

export async function readNextOffsets(database: Database, partitionIds: readonly number[]): Promise<Map<number, bigint>> {
  const { rows } = await database.query<{ id: number; next_offset: bigint }>({
    name: "log offsets",
    text: "SELECT id, next_offset FROM partitions WHERE id = ANY($1::int[])",
    values: [partitionIds],
  });
  return new Map(rows.map((row) => [row.id, row.next_offset]));
}

export async function livingMembers(database: Database): Promise<Member[]> {
  const { rows } = await database.query<Member>({
    name: "log members",
    text: "SELECT member, groups, subscriptions FROM members WHERE alive_until > clock_timestamp() ORDER BY member",
  });
  return rows;
}

export async function readLeases(database: Database, groupIds: readonly number[]): Promise<Lease[]> {
  const { rows } = await database.query<Lease>({
    name: "log leases",
    text: "SELECT group_id, partition_id, member, generation FROM leases WHERE group_id = ANY($1::int[])",
    values: [groupIds],
  });
  return rows;
}

/** Takes what nobody alive holds, each under a higher generation. */
export async function takeLeases(database: Database, self: string, groupId: number, partitionIds: readonly number[]) {
  return database.transaction(async (tx) => {
    await tx.query({
      text: "SELECT 1 FROM positions WHERE group_id = $1 AND partition_id = ANY($2::int[]) ORDER BY partition_id FOR NO KEY UPDATE",
      values: [groupId, partitionIds],
    });
    // Only now, so that the lease is seen of somebody who held the lock a moment ago.
    const { rows } = await tx.query<{ partition_id: number; position: bigint; generation: bigint }>({
      text: `UPDATE positions o SET generation = greatest(o.generation + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
             WHERE o.group_id = $2 AND o.partition_id = ANY($3::int[])
               AND NOT EXISTS (SELECT FROM leases l JOIN members m ON m.member = l.member
                               WHERE l.group_id = o.group_id AND l.partition_id = o.partition_id AND l.member <> $1 AND m.alive_until > clock_timestamp())
             RETURNING o.partition_id, o.position, o.generation`,
      values: [self, groupId, partitionIds],
    });
    await tx.commit([
      {
        text: `INSERT INTO leases (group_id, partition_id, member, generation) SELECT $2, u.* FROM (SELECT unnest($3::int[]) AS p, $1::uuid, unnest($4::bigint[]) AS g) u
               ON CONFLICT (group_id, partition_id) DO UPDATE SET member = excluded.member, generation = excluded.generation
               WHERE leases.generation < excluded.generation`,
        values: [self, groupId, rows.map((row) => row.partition_id), rows.map((row) => row.generation)],
      },
      { text: "DELETE FROM members WHERE alive_until < clock_timestamp() - interval '1 minute'" },
    ]);
    return rows.map((row) => ({ partitionId: row.partition_id, position: row.position, generation: row.generation }));
  });
}

export async function releaseLease(database: Database, { groupId, partitionId, member, generation }: Holding): Promise<void> {
  await database.query({
    text: "DELETE FROM leases WHERE group_id = $1 AND partition_id = $2 AND member = $3 AND generation = $4",
    values: [groupId, partitionId, member, generation],
  });
}
