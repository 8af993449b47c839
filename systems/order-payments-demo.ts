import { AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { PaymentsService } from "#contracts/polis/payments/v1/payments_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import type { Demo } from "#platform/system.ts";

const DEMO_USER = "11111111-1111-4111-8111-111111111111";

const ORDERS = [
  { amount: 120_000n, description: "Two tickets to the opera" },
  { amount: 45_050n, description: "A book on double entry" },
  { amount: 900_000n, description: "More than the account holds" },
];

/** A customer with some money, two orders that it pays and one that it doesn't; what is there already stays as it is. */
export const orderPaymentsDemo: Demo = async (clientFor) => {
  const client = clientFor(userCaller(DEMO_USER));
  const { orders } = await client(OrdersService).listOrders({ pageSize: ORDERS.length });
  if (orders.length < ORDERS.length) {
    const account = await client(AccountsService).openAccount({ currency: "RUB" }, { idempotencyKey: "demo-account" });
    await client(PaymentsService).topUp({ accountId: account.id, amount: 500_000n }, { idempotencyKey: "demo-top-up" });
    for (const [index, order] of ORDERS.entries())
      await client(OrdersService).createOrder(order, { idempotencyKey: `demo-order-${index}` });
  }
  return `A demo customer is there: X-User-Id: ${DEMO_USER}`;
};
