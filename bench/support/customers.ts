import { strict as assert } from "node:assert";
import { AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { serviceCaller, userCaller } from "#platform/access/caller.ts";
import { uuidv7 } from "#platform/ids.ts";
import type { RunningProcess } from "#platform/process/start-process.ts";

export type Customer = { readonly userId: string; readonly accountId: string };

type Clients = Pick<RunningProcess, "clientFor">;

/** More than any bench spends. */
const MONEY = 1_000_000_000_000n;

/** Customers with an account each and money on it. */
export const openCustomers = (polis: Clients, count: number): Promise<Customer[]> =>
  Promise.all(
    Array.from({ length: count }, async () => {
      const userId = crypto.randomUUID();
      const { id } = await polis.clientFor(userCaller(userId))(AccountsService).openAccount({ currency: "RUB" });
      await polis
        .clientFor(serviceCaller("payments"))(AccountsService)
        .post({
          postingId: uuidv7(),
          legs: [
            {
              debit: { account: { case: "house", value: "world" } },
              credit: { account: { case: "accountId", value: id } },
              amount: MONEY,
              currency: "RUB",
            },
          ],
        });
      return { userId, accountId: id };
    }),
  );

/** Any one of them. */
export function anyOf<T>(all: readonly T[]): T {
  const found = all[Math.floor(Math.random() * all.length)];
  assert(found !== undefined, "there is at least one");
  return found;
}

/** A rate over books that don't balance is worth nothing. */
export async function assertBooksBalance(polis: Clients): Promise<void> {
  const { balanced, faults } = await polis
    .clientFor(userCaller(crypto.randomUUID(), { roles: ["auditor"] }))(AccountsService)
    .checkBooks({}, { timeoutMs: 60_000 });
  assert(balanced, `the books don't balance: ${faults.join(", ")}`);
}
