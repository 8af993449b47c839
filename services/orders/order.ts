import { strict as assert } from "node:assert";
import { create } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { type CreateOrderRequest, type Order, Order_Status, OrderSchema } from "#contracts/polis/orders/v1/orders_pb.ts";

const DEFAULT_CURRENCY = "RUB";

/** A new order, as its customer asked for it. */
export const place = (request: CreateOrderRequest, facts: { id: string; userId: string; createdAt: Timestamp }): Order =>
  create(OrderSchema, {
    ...facts,
    amount: request.amount,
    currency: request.currency === "" ? DEFAULT_CURRENCY : request.currency,
    description: request.description,
    status: Order_Status.NEW,
  });

/** The order was paid. */
export const finish = (order: Order): Order => settle(order, { status: Order_Status.FINISHED });

/** The order can't be paid, for this reason. */
export const cancel = (order: Order, reason: string): Order => settle(order, { status: Order_Status.CANCELED, reason });

function settle(order: Order, end: Pick<Order, "status" | "reason">): Order {
  if (order.status === end.status) return order; // a repeat
  assert(order.status === Order_Status.NEW, `order ${order.id} was settled otherwise`);
  return { ...order, ...end };
}
