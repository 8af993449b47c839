import { AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { consumer, on } from "#platform/events/define-consumer.ts";
import { chargeOf, chargePosting, tellOf } from "./charge.ts";
import { charges } from "./tables.ts";

/** Charges the order to its customer's account and tells what came of it. */
export const onOrderCreated = consumer(
  on(OrderCreatedSchema, {
    prepare: (order, { peer }) => peer(AccountsService).post(chargePosting(order)),
    lock: ({ orderId }) => charges.row(orderId),
    write(tx, order, { now, prepared: posting, locked: earlier }) {
      // Told already, in the transaction that wrote it.
      if (earlier !== undefined) return;
      const charge = chargeOf(order, posting, now);
      tx.insert(charges, charge);
      tellOf(tx, charge);
    },
  }),
);
