import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { defineService } from "#platform/service.ts";
import { createOrder } from "./create-order.ts";
import { getOrder } from "./get-order.ts";
import { listOrders } from "./list-orders.ts";
import { onPaymentSettled } from "./on-payment-settled.ts";

export const ordersService = defineService(OrdersService, {
  folder: import.meta.dirname,
  operations: { createOrder, getOrder, listOrders },
  consumers: { onPaymentSettled },
  publishes: [OrderCreatedSchema],
});
