import { strict as assert } from "node:assert";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { type Posting, Posting_Outcome, type PostRequestSchema } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import type { OrderCreated_Data } from "#contracts/polis/orders/v1/events_pb.ts";
import { PaymentFailedSchema, PaymentSucceededSchema } from "#contracts/polis/payments/v1/events_pb.ts";
import type { Tx } from "#platform/writes/definitions.ts";
import type { Charge } from "./tables.ts";

type Order = Pick<OrderCreated_Data, "orderId" | "userId" | "amount" | "currency">;

/** The posting that pays an order: from its customer's account to the shop, under the order's id, so that it happens once. */
export const chargePosting = ({ orderId, userId, amount, currency }: OrderCreated_Data): MessageInitShape<typeof PostRequestSchema> => ({
  postingId: orderId,
  legs: [
    {
      debit: { account: { case: "owner", value: { userId } } },
      credit: { account: { case: "house", value: "sales" } },
      amount,
      currency,
    },
  ],
  referenceOrderId: orderId,
});

/** What a posting's outcome says of the order's payment. */
export function chargeOf({ orderId, userId, amount, currency }: Order, posting: Posting, createdAt: Timestamp): Charge {
  const facts = { orderId, userId, amount, currency, createdAt };
  if (posting.outcome === Posting_Outcome.POSTED) return { ...facts, status: "SUCCEEDED", reason: undefined };
  const reason = posting.outcome === Posting_Outcome.VOIDED ? "charge_cancelled" : posting.reason;
  assert(reason !== undefined, `posting ${posting.id} was rejected for no reason`);
  return { ...facts, status: "FAILED", reason };
}

/** Tells whoever wants to know, in the transaction that writes the charge. */
export function tellOf(tx: Tx, { orderId, userId, reason }: Charge): void {
  if (reason === undefined) tx.publish(PaymentSucceededSchema, { orderId, userId });
  else tx.publish(PaymentFailedSchema, { orderId, userId, reason });
}
