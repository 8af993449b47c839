import { strict as assert } from "node:assert";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { consumer, on } from "#platform/events/define-consumer.ts";
import { defineService } from "#platform/service.ts";
import { finish } from "../services/orders/order.ts";
import { ordersService } from "../services/orders/service.ts";
import { orders as ordersTable } from "../services/orders/tables.ts";
import { type Bench, figure } from "./bench.ts";
import { openHttpCustomers, post } from "./support/http-customers.ts";
import { orderBody } from "./support/load.ts";
import { spawnPolis, startPolis } from "./support/polis.ts";
import { median } from "./support/rounds.ts";
import { connect, startServer } from "./support/server.ts";

const WARM_UPS = 100;
const TIMES = 300;
/** After each: what it leaves to do, such as the emptying of outboxes, is none of the next one's. */
const PAUSE_MS = 15;

export const orderAlone: Bench = {
  name: "order-alone",
  text: "one order at a time: POST → FINISHED; one event at a time: publish → handled",
  async run({ parts, report }) {
    {
      await using own = parts.use(new AsyncDisposableStack());
      const server = await startServer(own);
      const polis = await spawnPolis(server, own);
      const orders = await connect(server, "polis_orders", own);
      const [userId = ""] = await openHttpCustomers(polis.url, 1);
      const times = await repeat(() => orderToFinished(`${polis.url}/orders`, userId, orders));
      report(
        figure({
          name: "POST → FINISHED alone, p50",
          value: median(times.map(({ finishedMs }) => finishedMs)),
          unit: "ms",
          goal: { of: "value", atMost: 8 },
          medianOf: TIMES,
          note: `p90 ${quantile(
            times.map(({ finishedMs }) => finishedMs),
            0.9,
          ).toFixed(1)} ms; over HTTP from another process, which looks every millisecond`,
        }),
      );
      const answers = times.map(({ answeredMs }) => answeredMs);
      report(
        figure({
          name: "POST → 201 alone, p50",
          value: median(answers),
          unit: "ms",
          medianOf: TIMES,
          note: `p90 ${quantile(answers, 0.9).toFixed(1)} ms`,
        }),
      );
    }
    const server = await startServer(parts);
    const { times, floor } = await publishToHandled(server, parts);
    report(
      figure({
        name: "publish → handled, p50",
        value: median(times),
        unit: "ms",
        goal: { of: "value", atMost: 3 },
        medianOf: TIMES,
        note: `p90 ${quantile(times, 0.9).toFixed(1)} ms; from the commit that publishes to the commit of what the handler wrote; one durable commit on this disk: ${floor.toFixed(2)} ms`,
      }),
    );
  },
};

async function repeat<T>(run: () => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let i = -WARM_UPS; i < TIMES; i++) {
    const result = await run();
    if (i >= 0) results.push(result);
    await sleep(PAUSE_MS);
  }
  return results;
}

const quantile = (values: readonly number[], part: number): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length * part)] ?? Number.NaN;

async function orderToFinished(url: string, userId: string, orders: Client): Promise<{ answeredMs: number; finishedMs: number }> {
  const startedMs = performance.now();
  const { id } = await post(url, userId, orderBody);
  const answeredMs = performance.now() - startedMs;
  for (;;) {
    const { rows } = await orders.query<{ status: string }>({
      name: "status",
      text: "SELECT status FROM orders WHERE id = $1",
      values: [id],
    });
    if (rows[0]?.status === "FINISHED") return { answeredMs, finishedMs: performance.now() - startedMs };
    assert.equal(rows[0]?.status, "NEW");
    await sleep(1);
  }
}

/** The service of orders, which here handles its own event: one publication, one handler, and nothing else. */
async function publishToHandled(
  server: Awaited<ReturnType<typeof startServer>>,
  parts: AsyncDisposableStack,
): Promise<{ times: number[]; floor: number }> {
  let handling = Promise.withResolvers<void>();
  const onOrderCreated = consumer(
    on(OrderCreatedSchema, {
      lock: ({ orderId }) => ordersTable.row(orderId),
      write(tx, _data, { locked: order }) {
        assert(order !== undefined, "the order is there");
        tx.update(ordersTable, finish(order));
        handling.resolve();
      },
    }),
  );
  const operations = ordersService.operations as Parameters<typeof defineService<typeof OrdersService>>[1]["operations"];
  const service = defineService(OrdersService, {
    folder: ordersService.folder,
    operations,
    consumers: { onOrderCreated },
    publishes: [OrderCreatedSchema],
  });
  const polis = await startPolis(server, parts, [service]);
  const orders = await connect(server, "polis_orders", parts);
  const client = polis.clientFor(userCaller(crypto.randomUUID()))(OrdersService);
  const times = await repeat(async () => {
    handling = Promise.withResolvers();
    const { id } = await client.createOrder({ amount: 1n, currency: "RUB", description: "x" });
    const publishedMs = performance.now();
    await handling.promise;
    // The handler's transaction holds the row until it commits; this waits for its lock, and so for the commit.
    const { rows } = await orders.query<{ status: string }>({
      name: "locked",
      text: "SELECT status FROM orders WHERE id = $1 FOR SHARE",
      values: [id],
    });
    const handledMs = performance.now();
    assert.equal(rows[0]?.status, "FINISHED", "the handler's transaction has committed");
    return handledMs - publishedMs;
  });
  await orders.query("CREATE TABLE commits (n int)");
  const floors = await repeat(async () => {
    const startedMs = performance.now();
    await orders.query("INSERT INTO commits VALUES (1)");
    return performance.now() - startedMs;
  });
  return { times, floor: median(floors) };
}
