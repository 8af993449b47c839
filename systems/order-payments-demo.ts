import { AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { PaymentsService } from "#contracts/polis/payments/v1/payments_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import type { Peers } from "#platform/rpc/client.ts";
import type { Demo } from "#platform/system.ts";

const CUSTOMER = { userId: "11111111-1111-4111-8111-111111111111", email: "customer@example.com", roles: [] };
/** Somebody of each role that the services know. */
const USERS = [
  CUSTOMER,
  { userId: "11111111-1111-4111-8111-111111111112", email: "auditor@example.com", roles: ["auditor"] },
  { userId: "11111111-1111-4111-8111-111111111113", email: "support@example.com", roles: ["support"] },
  { userId: "11111111-1111-4111-8111-111111111114", email: "admin@example.com", roles: ["admin"] },
];
/** Anybody reads it here: the demo is put there only where nobody but this machine gets at it. */
const PASSWORD = "demo otters dance";

const ORDERS = [
  { amount: 120_000n, description: "Two tickets to the opera" },
  { amount: 45_050n, description: "A book on double entry" },
  { amount: 900_000n, description: "More than the account holds" },
];

/** Users of each role; a customer with some money, two orders that it pays and one that it doesn't. What is there already stays as it is. */
export const orderPaymentsDemo: Demo = async (clientFor) => {
  await putUsers(clientFor(userCaller(CUSTOMER.userId, { roles: ["admin"], secondFactor: true })));
  const client = clientFor(userCaller(CUSTOMER.userId));
  const { orders } = await client(OrdersService).listOrders({ pageSize: ORDERS.length });
  if (orders.length < ORDERS.length) {
    const account = await client(AccountsService).openAccount({ currency: "RUB" }, { idempotencyKey: "demo-account" });
    await client(PaymentsService).topUp({ accountId: account.id, amount: 500_000n }, { idempotencyKey: "demo-top-up" });
    for (const [index, order] of ORDERS.entries())
      await client(OrdersService).createOrder(order, { idempotencyKey: `demo-order-${index}` });
  }
  return `Demo users are there: ${USERS.map(({ email }) => email).join(", ")}; the password of each is: ${PASSWORD}`;
};

async function putUsers(peer: Peers): Promise<void> {
  for (const { userId, email, roles } of USERS)
    try {
      await peer(AuthService).createUser({ userId, contact: { case: "email", value: email }, password: PASSWORD, roles });
    } catch (error) {
      if ((error as { code?: unknown }).code !== "contact_taken") throw error;
    }
}
