import { strict as assert } from "node:assert";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { consumer, on } from "#platform/events/define-consumer.ts";
import { defineService } from "#platform/service.ts";
import { finish } from "../../services/orders/order.ts";
import { ordersService } from "../../services/orders/service.ts";
import { orders as ordersTable } from "../../services/orders/tables.ts";
import { startPolis } from "./polis.ts";
import { type BenchServer, connect } from "./server.ts";

/**
 * The service of orders, which here handles its own event: one publication, one handler, and nothing else. What is given publishes
 * one and tells how long it took, in milliseconds, until its handler's transaction had committed.
 */
export async function openPublication(
  server: BenchServer,
  parts: AsyncDisposableStack,
  environment: Readonly<Record<string, string>> = {},
): Promise<() => Promise<number>> {
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
  const polis = await startPolis(server, parts, [service], environment);
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
