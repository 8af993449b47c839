import { create } from "@bufbuild/protobuf";
import { AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { Charge_Status, ChargeSchema, PaymentsService } from "#contracts/polis/payments/v1/payments_pb.ts";
import { operation } from "#platform/writes/definitions.ts";
import { chargeOf, tellOf } from "./charge.ts";
import { type Charge, charges } from "./tables.ts";

/** Claims the id under which the order would be charged: what was posted stays, and what wasn't, never will be. */
export const cancelCharge = operation(PaymentsService.method.cancelCharge, {
  prepare: ({ orderId }, { peer }) => peer(AccountsService).void({ postingId: orderId }),
  lock: ({ orderId }) => charges.row(orderId),
  write(tx, order, { now, prepared: posting, locked: earlier }) {
    if (earlier !== undefined) return answerOf(earlier);
    const charge = chargeOf(order, posting, now);
    tx.insert(charges, charge);
    tellOf(tx, charge);
    return answerOf(charge);
  },
});

const answerOf = ({ orderId, status, reason }: Charge) =>
  create(ChargeSchema, { orderId, status: Charge_Status[status], ...(reason === undefined ? {} : { reason }) });
