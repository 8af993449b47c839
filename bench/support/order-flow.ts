import { strict as assert } from "node:assert";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import type { RunningProcess } from "#platform/process/start-process.ts";
import { keepCalling } from "./calling.ts";
import { anyOf, type Customer } from "./customers.ts";

const POLL_MS = 5;
const NO_ID = "00000000-0000-0000-0000-000000000000";

/** Watches the table of orders, on a connection of its own, so lightly that what is measured doesn't feel it. */
export type OrdersWatch = { awaitFinished(expected: number): Promise<number> };

/** Begins with the orders that are there now: they count no more. `orders` is connected to their database. */
export async function watchOrders(orders: Client): Promise<OrdersWatch> {
  const { rows } = await orders.query<{ id: string }>("SELECT id FROM orders ORDER BY id DESC LIMIT 1");
  const last = rows[0]?.id ?? NO_ID;
  return {
    /**
     * Resolves when all orders since then, `expected` of them, have ended, with the moment (of `performance.now`) at which
     * that was so. Throws where one of them wasn't paid.
     */
    async awaitFinished(expected) {
      for (;;) {
        const seenMs = performance.now();
        // The newest end last, or nearly: as long as one of them waits, the others need no counting.
        const { rows: newest } = await orders.query<{ waiting: string }>({
          name: "newest",
          text: "SELECT count(*) AS waiting FROM (SELECT status FROM orders WHERE id > $1 ORDER BY id DESC LIMIT 200) n WHERE status = 'NEW'",
          values: [last],
        });
        if (Number(newest[0]?.waiting) === 0) {
          const { rows: counts } = await orders.query<{ status: string; n: string }>({
            name: "counts",
            text: "SELECT status, count(*) AS n FROM orders WHERE id > $1 GROUP BY status",
            values: [last],
          });
          const of = Object.fromEntries(counts.map(({ status, n }) => [status, Number(n)]));
          if ((of.NEW ?? 0) === 0) {
            assert.deepEqual(of, { FINISHED: expected }, "every order was paid");
            return seenMs;
          }
        }
        await sleep(POLL_MS);
      }
    },
  };
}

/** Makes orders through the in-process client, `callers` at a time, and waits until all of them are FINISHED. */
export async function runOrders(
  polis: RunningProcess,
  orders: Client,
  { customers, count, callers }: { customers: readonly Customer[]; count: number; callers: number },
): Promise<{ count: number; elapsedMs: number }> {
  const clients = customers.map(({ userId }) => polis.clientFor(userCaller(userId))(OrdersService));
  const watch = await watchOrders(orders);
  const startedMs = performance.now();
  await keepCalling(callers, { count }, () =>
    anyOf(clients).createOrder(
      { amount: 1n, currency: "RUB", description: "Two tickets to the opera" },
      { idempotencyKey: crypto.randomUUID() },
    ),
  );
  return { count, elapsedMs: (await watch.awaitFinished(count)) - startedMs };
}
