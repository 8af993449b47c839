import { type Duration, durationMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { FindStaleOrdersSchema, FollowUpOrderSchema } from "#contracts/polis/orders/v1/tasks_pb.ts";
import { firstUuidAt } from "#platform/ids.ts";
import { task } from "#platform/tasks/define-task.ts";
import { followUps } from "./tables.ts";

const ORDERS_AT_ONCE = 1_000;
const ALL = "all";

/**
 * Has orders followed up that have stayed NEW for too long. They are looked through once, by their ids, which grow with time: what comes
 * before the mark has ended, or has its follow-up. So no index of orders by their status is needed, which each order would pay for.
 */
export const findStaleOrders = task(FindStaleOrdersSchema, {
  async prepare({ olderThan }, { sql, now }) {
    // By the clock that is behind: a mark in the future would leave out what comes before it.
    const clock = await sql.query<{ ms: number }>({ text: "SELECT extract(epoch FROM now())::float8 * 1000 AS ms" });
    const end = firstUuidAt(Math.floor(Math.min(timestampMs(now), clock.rows[0]?.ms ?? 0) - durationMs(olderThan as Duration)));
    const { rows } = await sql.query<{ id: string }>({
      name: "stale orders",
      text: `SELECT id FROM orders WHERE id >= coalesce((SELECT looked_through FROM follow_ups), $1) AND id < $2 AND status = 'NEW'
             ORDER BY id LIMIT $3`,
      values: [firstUuidAt(0), end, ORDERS_AT_ONCE],
    });
    const ids = rows.map(({ id }) => id);
    const isAll = ids.length < ORDERS_AT_ONCE;
    return { ids, isAll, lookedThrough: isAll ? end : (ids.at(-1) as string) };
  },
  lock: () => followUps.row(ALL),
  write(tx, { olderThan }, { prepared: { ids, isAll, lookedThrough }, locked: before }) {
    for (const id of ids) tx.enqueue(FollowUpOrderSchema, { orderId: id }, { key: id });
    if (before === undefined) tx.insert(followUps, { id: ALL, lookedThrough });
    // Two at once may have looked: the mark never goes back.
    else if (lookedThrough > before.lookedThrough) tx.update(followUps, { ...before, lookedThrough });
    if (!isAll) tx.enqueue(FindStaleOrdersSchema, { olderThan: olderThan as Duration });
    return `${ids.length} found`;
  },
});
