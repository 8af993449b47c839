import { strict as assert } from "node:assert";
import { Order_Status } from "#contracts/polis/orders/v1/orders_pb.ts";
import { FollowUpOrderSchema } from "#contracts/polis/orders/v1/tasks_pb.ts";
import { Charge_Status, PaymentsService } from "#contracts/polis/payments/v1/payments_pb.ts";
import { find } from "#platform/reads/query.ts";
import { task } from "#platform/tasks/define-task.ts";
import { cancel, finish } from "./order.ts";
import { orders } from "./tables.ts";

/** Ends an order as payments decides now, where nothing was heard of its payment: it was charged, or never will be. */
export const followUpOrder = task(FollowUpOrderSchema, {
  async prepare({ orderId }, { sql, peer }) {
    const order = await find(sql, orders.row(orderId));
    assert(order, `there is no order ${orderId}`);
    if (order.status !== Order_Status.NEW) return undefined;
    const { userId, amount, currency } = order;
    return peer(PaymentsService).cancelCharge({ orderId, userId, amount, currency });
  },
  lock: ({ orderId }) => orders.row(orderId),
  write(tx, { orderId }, { prepared: charge, locked: order }) {
    assert(order, `there is no order ${orderId}`);
    if (charge === undefined) return "had ended";
    tx.update(orders, charge.status === Charge_Status.SUCCEEDED ? finish(order) : cancel(order, charge.reason ?? "charge_cancelled"));
    return charge.status === Charge_Status.SUCCEEDED ? "finished" : "cancelled";
  },
});
