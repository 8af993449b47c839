import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { operation } from "#platform/writes/definitions.ts";
import { place } from "./order.ts";
import { orders } from "./tables.ts";

/** Stores the order as NEW and asks for its payment. */
export const createOrder = operation(OrdersService.method.createOrder, {
  write(tx, request, { caller, id, now }) {
    const order = place(request, { id, userId: requireUser(caller).userId, createdAt: now });
    tx.insert(orders, order);
    const { userId, amount, description, currency } = order;
    tx.publish(OrderCreatedSchema, { orderId: id, userId, amount, description, currency });
    return order;
  },
});
