import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { FindStaleOrdersSchema } from "#contracts/polis/orders/v1/tasks_pb.ts";
import { PaymentsService } from "#contracts/polis/payments/v1/payments_pb.ts";
import { defineService } from "#platform/service.ts";
import { schedule } from "#platform/tasks/define-schedule.ts";
import { createOrder } from "./create-order.ts";
import { findStaleOrders } from "./find-stale-orders.ts";
import { followUpOrder } from "./follow-up-order.ts";
import { getOrder } from "./get-order.ts";
import { listOrders } from "./list-orders.ts";
import { onPaymentSettled } from "./on-payment-settled.ts";

/** An order ends within moments where all is well; past this, payments is asked. */
const STAYS_NEW_AT_MOST = durationFromMs(10 * 60_000);

export const ordersService = defineService(OrdersService, {
  folder: import.meta.dirname,
  operations: { createOrder, getOrder, listOrders },
  consumers: { onPaymentSettled },
  tasks: { findStaleOrders, followUpOrder },
  schedules: { findStaleOrders: schedule(FindStaleOrdersSchema, { cron: "* * * * *", data: () => ({ olderThan: STAYS_NEW_AT_MOST }) }) },
  publishes: [OrderCreatedSchema],
  peers: [PaymentsService],
});
