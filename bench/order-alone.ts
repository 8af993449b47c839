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
import { type BenchServer, connect, startServer } from "./support/server.ts";

const WARM_UPS = 100;
const TIMES = 250;
/** One right after the other; and each after a rest, in which the processors fall asleep, as they do where nobody calls. */
const PACES = [
  { pauseMs: 0, goals: true, pace: "" },
  { pauseMs: 15, goals: false, pace: ", after 15 ms of rest" },
];

export const orderAlone: Bench = {
  name: "order-alone",
  text: "one order at a time: POST → FINISHED; one event at a time: publish → handled",
  async run({ parts, report }) {
    const reportTimes = (name: string, times: readonly number[], atMost: number | undefined, note: string): void =>
      report(
        figure({
          name,
          value: median(times),
          unit: "ms",
          medianOf: times.length,
          note: `p90 ${quantile(times, 0.9).toFixed(1)} ms; ${note}`,
          ...(atMost === undefined ? {} : { goal: { of: "value", atMost } }),
        }),
      );
    {
      await using own = parts.use(new AsyncDisposableStack());
      const server = await startServer(own);
      const polis = await spawnPolis(server, own);
      const orders = await connect(server, "polis_orders", own);
      const [userId = ""] = await openHttpCustomers(polis.url, 1);
      for (const { pauseMs, goals, pace } of PACES) {
        const times = await repeat(pauseMs, () => orderToFinished(`${polis.url}/orders`, userId, orders));
        const finished = times.map(({ finishedMs }) => finishedMs);
        const note = "over HTTP from another process, which looks every millisecond";
        reportTimes(`POST → FINISHED alone, p50${pace}`, finished, goals ? 8 : undefined, note);
        const answered = times.map(({ answeredMs }) => answeredMs);
        reportTimes(`POST → 201 alone, p50${pace}`, answered, undefined, "of the same orders");
      }
    }
    const server = await startServer(parts);
    const publish = await openPublication(server, parts);
    const commit = await openCommit(server, parts);
    for (const { pauseMs, goals, pace } of PACES) {
      const times = await repeat(pauseMs, publish);
      const floor = median(await repeat(pauseMs, commit));
      const note = `from the commit that publishes to the commit of what the handler wrote; a single INSERT takes ${floor.toFixed(2)} ms so`;
      reportTimes(`publish → handled, p50${pace}`, times, goals ? 3 : undefined, note);
    }
  },
};

async function repeat<T>(pauseMs: number, run: () => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let i = -WARM_UPS; i < TIMES; i++) {
    const result = await run();
    if (i >= 0) results.push(result);
    if (pauseMs > 0) await sleep(pauseMs);
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
async function openPublication(server: BenchServer, parts: AsyncDisposableStack): Promise<() => Promise<number>> {
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
  return async () => {
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
  };
}

/** The least that a durable transaction takes here. */
async function openCommit(server: BenchServer, parts: AsyncDisposableStack): Promise<() => Promise<number>> {
  const client = await connect(server, "postgres", parts);
  await client.query("CREATE TABLE commits (n int)");
  return async () => {
    const startedMs = performance.now();
    await client.query("INSERT INTO commits VALUES (1)");
    return performance.now() - startedMs;
  };
}
