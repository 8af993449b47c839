import { strict as assert } from "node:assert";
import { PaymentFailedSchema, PaymentSucceededSchema } from "#contracts/polis/payments/v1/events_pb.ts";
import { consumer, on } from "#platform/events/define-consumer.ts";
import { cancel, finish } from "./order.ts";
import { orders } from "./tables.ts";

const lock = ({ orderId }: { orderId: string }) => orders.row(orderId);

/** Ends the order as payments decided: one group for both events, so that they keep their order. */
export const onPaymentSettled = consumer(
  on(PaymentSucceededSchema, {
    lock,
    write(tx, { orderId }, { locked: order }) {
      assert(order, `there is no order ${orderId}`);
      tx.update(orders, finish(order));
    },
  }),
  on(PaymentFailedSchema, {
    lock,
    write(tx, { orderId, reason }, { locked: order }) {
      assert(order, `there is no order ${orderId}`);
      tx.update(orders, cancel(order, reason));
    },
  }),
);
