import { AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { PaymentFailedSchema, PaymentSucceededSchema } from "#contracts/polis/payments/v1/events_pb.ts";
import { PaymentsService } from "#contracts/polis/payments/v1/payments_pb.ts";
import { defineService } from "#platform/service.ts";
import { cancelCharge } from "./cancel-charge.ts";
import { onOrderCreated } from "./on-order-created.ts";
import { topUp } from "./top-up.ts";

export const paymentsService = defineService(PaymentsService, {
  folder: import.meta.dirname,
  operations: { topUp, cancelCharge },
  consumers: { onOrderCreated },
  publishes: [PaymentSucceededSchema, PaymentFailedSchema],
  peers: [AccountsService],
});
