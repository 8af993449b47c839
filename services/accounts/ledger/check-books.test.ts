import { randomUUID } from "node:crypto";
import { afterEach, expect, test } from "vitest";
import { AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { serviceCaller, userCaller } from "#platform/access/caller.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { accountsService } from "../service.ts";

const services = await testServices(accountsService);
const database = services.database("accounts");
const auditor = services.client(AccountsService, userCaller(randomUUID(), { roles: ["auditor"] }));
const account = await services.client(AccountsService, userCaller(randomUUID())).openAccount({});
await services.client(AccountsService, serviceCaller("payments")).post({
  postingId: randomUUID(),
  legs: [
    {
      debit: { account: { case: "house", value: "world" } },
      credit: { account: { case: "accountId", value: account.id } },
      amount: 100n,
      currency: "RUB",
    },
  ],
});

const setBalance = (balance: bigint) =>
  database.query({ text: "UPDATE accounts SET balance = $2 WHERE id = $1", values: [account.id, balance] });
const forged = randomUUID();
/** A posting as only SQL could write it. */
const forge = (debit: string, credit: string, currency: string) =>
  database.query({
    text: "INSERT INTO postings (id, posting_id, leg, outcome, debit_account_id, credit_account_id, amount, currency, created_at) VALUES ($1, $1, 0, 'POSTED', $2, $3, 7, $4, now())",
    values: [forged, debit, credit, currency],
  });
const worldId = async () =>
  (await database.query<{ id: string }>({ text: "SELECT id FROM house_accounts WHERE name = 'world'" })).rows[0]?.id as string;

afterEach(async () => {
  await setBalance(100n);
  await database.query({ text: "DELETE FROM postings WHERE id = $1", values: [forged] });
  expect(await auditor.checkBooks({})).toMatchObject({
    balanced: true,
    faults: [],
    assets: [{ currency: "RUB", sum: 0n }],
    accounts: 1n,
    postings: 1n,
  });
});

test.each([99n, 101n, 0n])("a balance of %s that its postings don't make is found", async (balance) => {
  await setBalance(balance);
  const books = await auditor.checkBooks({});
  expect(books.balanced).toBe(false);
  expect(books.faults).toContain(`account ${account.id} has ${balance}, its postings make 100`);
  expect(books.assets).toMatchObject([{ currency: "RUB", sum: balance - 100n }]);
});

test("a posting with an account that isn't there is found", async () => {
  const nowhere = randomUUID();
  await forge(await worldId(), nowhere, "RUB");
  const books = await auditor.checkBooks({});
  expect(books.balanced).toBe(false);
  expect(books.faults).toContain(`account ${nowhere} has postings and no row`);
});

test("a posting in another currency than its account is found", async () => {
  await forge(await worldId(), account.id, "USD");
  const books = await auditor.checkBooks({});
  expect(books.balanced).toBe(false);
  expect(books.faults).toContain(`account ${account.id} is in RUB and has postings in USD`);
});
