import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import type { Rest, Transaction } from "./support/rest-client.ts";
import { settled } from "./support/settled.ts";
import { testDatabases } from "./support/test-databases.ts";
import { startTestPolis } from "./support/test-polis.ts";

const databases = await testDatabases();
const polis = await startTestPolis(databases);

/** A new customer with an account in roubles and this much on it. */
async function customer(balance = 0n): Promise<{ rest: Rest; userId: string; accountId: string }> {
  const userId = randomUUID();
  const rest = polis.rest(userId);
  const { body } = await rest.openAccount();
  if (balance > 0n) expect((await rest.topUp(body.id, String(balance), "first-money")).status).toBe(201);
  return { rest, userId, accountId: body.id };
}

const balanceOf = async (rest: Rest, accountId: string) => (await rest.account(accountId)).body.balance;

const books = () =>
  polis
    .clientFor(userCaller(randomUUID(), { roles: ["auditor"] }))(AccountsService)
    .checkBooks({});

test("an order is NEW at once, FINISHED within milliseconds, and paid from the account", async () => {
  const { rest, userId, accountId } = await customer(5000n);
  const durationsMs: number[] = [];
  for (let round = 0; round < 5; round++) {
    const startedMs = performance.now();
    const { status, body } = await rest.createOrder({ amount: "1000", description: "Two tickets to the opera" }, `order-${round}`);
    expect({ status, body }).toMatchObject({
      status: 201,
      body: { userId, amount: "1000", currency: "RUB", description: "Two tickets to the opera", status: "NEW" },
    });
    expect(await settled(rest, body.id)).toMatchObject({ status: "FINISHED" });
    durationsMs.push(performance.now() - startedMs);
  }
  expect(await balanceOf(rest, accountId)).toBe("0");
  // Far above the goal, since other tests share the machine, and far below any poll.
  expect(Math.min(...durationsMs)).toBeLessThan(500);
});

test("an order over the balance is cancelled and leaves the balance as it was", async () => {
  const { rest, accountId } = await customer(999n);
  const { body } = await rest.createOrder({ amount: 1000 });
  expect(await settled(rest, body.id)).toMatchObject({ status: "CANCELED", reason: "insufficient_funds" });
  expect(await balanceOf(rest, accountId)).toBe("999");
  expect((await rest.transactions(accountId)).body.transactions).toHaveLength(1);
});

test("an order of a customer without an account, or in another currency than the account's, is cancelled and says so", async () => {
  const stranger = polis.rest(randomUUID());
  const first = await stranger.createOrder({ amount: 1 });
  expect(await settled(stranger, first.body.id)).toMatchObject({ status: "CANCELED", reason: "account_not_found" });
  const { rest, accountId } = await customer(100n);
  const second = await rest.createOrder({ amount: 1, currency: "USD" });
  expect(await settled(rest, second.body.id)).toMatchObject({ status: "CANCELED", reason: "currency_mismatch", currency: "USD" });
  expect(await balanceOf(rest, accountId)).toBe("100");
});

test("a customer has one account, however many are asked for at once", async () => {
  const rest = polis.rest(randomUUID());
  const answers = await Promise.all(Array.from({ length: 10 }, () => rest.openAccount({ currency: "RUB" })));
  const refused = answers.filter(({ status }) => status !== 201);
  expect(refused).toHaveLength(9);
  for (const { status, body } of refused) expect([status, body.code]).toEqual([409, "account_exists"]);
  expect((await rest.accounts()).body.accounts).toHaveLength(1);
});

test("a top-up is repeated under its key with the same answer and one credit; another body under the key is refused", async () => {
  const { rest, accountId } = await customer();
  const answers = await Promise.all(Array.from({ length: 10 }, () => rest.topUp(accountId, "5000", "key")));
  const [first] = answers;
  for (const answer of answers) expect([answer.status, answer.body]).toEqual([201, first?.body]);
  const other = await rest.topUp(accountId, "5001", "key");
  expect([other.status, other.body.code]).toEqual([409, "idempotency_key_reused"]);
  expect(await balanceOf(rest, accountId)).toBe("5000");
});

test("top-ups past 2^63-1 are refused, and the balance stays at what fits", async () => {
  const max = String(2n ** 63n - 1n);
  const { rest, accountId } = await customer();
  expect((await rest.topUp(accountId, max, "all-there-is")).status).toBe(201);
  const over = await rest.topUp(accountId, "1", "one-more");
  expect([over.status, over.body.code]).toEqual([409, "balance_out_of_range"]);
  expect(await balanceOf(rest, accountId)).toBe(max);
  const order = await rest.createOrder({ amount: max });
  expect(await settled(rest, order.body.id)).toMatchObject({ status: "FINISHED" });
  expect(await balanceOf(rest, accountId)).toBe("0");
});

test("transactions and orders come newest first, page by page, each once", async () => {
  const { rest, accountId } = await customer();
  for (const amount of [1, 2, 3, 4, 5, 6, 7]) await rest.topUp(accountId, amount, `top-up-${amount}`);
  const seen: Transaction[] = [];
  let token = "";
  do {
    const { body } = await rest.transactions(accountId, `?page_size=3&page_token=${token}`);
    expect(body.transactions.length).toBeLessThanOrEqual(3);
    seen.push(...body.transactions);
    token = body.nextPageToken;
  } while (token !== "");
  expect(seen.map(({ amount, type }) => `${type} ${amount}`)).toEqual([7, 6, 5, 4, 3, 2, 1].map((amount) => `CREDIT ${amount}`));

  const placed: string[] = [];
  for (const amount of [20, 5, 30]) placed.unshift((await rest.createOrder({ amount })).body.id);
  const ends = new Map<string, string>();
  for (const id of placed) ends.set(id, (await settled(rest, id)).status);
  const first = await rest.orders("?page_size=2");
  const rest2 = await rest.orders(`?page_size=2&page_token=${first.body.nextPageToken}`);
  expect([...first.body.orders, ...rest2.body.orders].map(({ id }) => id)).toEqual(placed);
  const cancelled = await rest.orders("?status=CANCELED");
  expect(cancelled.body.orders.map(({ id }) => id)).toEqual(placed.filter((id) => ends.get(id) === "CANCELED"));
});

test("another customer's account and order are not there for me, whatever I do with them", async () => {
  const { rest: owner, accountId } = await customer(100n);
  const order = await owner.createOrder({ amount: 10 });
  await settled(owner, order.body.id);
  const { rest: other } = await customer(100n);
  for (const answer of [
    await other.account(accountId),
    await other.transactions(accountId),
    await other.topUp(accountId, 5, "not-mine"),
    await other.order(order.body.id),
  ])
    expect(answer.status).toBe(404);
  expect((await other.orders()).body.orders).toEqual([]);
  expect(await balanceOf(owner, accountId)).toBe("90");
});

test("of 50 orders at once, for money that pays 20, exactly 20 are paid", async () => {
  const { rest, accountId } = await customer(2000n);
  const placed = await Promise.all(Array.from({ length: 50 }, () => rest.createOrder({ amount: 100 })));
  const ended = await Promise.all(placed.map(({ body }) => settled(rest, body.id)));
  expect(ended.filter(({ status }) => status === "FINISHED")).toHaveLength(20);
  expect(ended.filter(({ reason }) => reason === "insufficient_funds")).toHaveLength(30);
  expect(await balanceOf(rest, accountId)).toBe("0");
  expect(await books()).toMatchObject({ balanced: true, faults: [] });
});

test("the same Idempotency-Key 20 times at once makes one order, paid once; a repeat gets the first answer even when the order has ended", async () => {
  const { rest, accountId } = await customer(1000n);
  const answers = await Promise.all(Array.from({ length: 20 }, () => rest.createOrder({ amount: 300 }, "one-of-twenty")));
  const [first] = answers;
  for (const { status, body } of answers) expect([status, body]).toEqual([201, first?.body]);
  await settled(rest, first?.body.id ?? "");
  expect((await rest.createOrder({ amount: 300 }, "one-of-twenty")).body).toEqual(first?.body);
  expect((await rest.createOrder({ amount: 301 }, "one-of-twenty")).body.code).toBe("idempotency_key_reused");
  expect((await rest.orders()).body.orders).toHaveLength(1);
  expect(await balanceOf(rest, accountId)).toBe("700");
});

test("in the end the books balance, nothing waits in an outbox, and nobody's order is a dead letter", async () => {
  const { balanced, faults, assets } = await books();
  expect({ balanced, faults }).toEqual({ balanced: true, faults: [] });
  expect(assets.map(({ sum }) => sum)).toEqual(assets.map(() => 0n));
  for (const service of ["accounts", "payments", "orders"])
    for (const table of ["outbox", "outbox_parked", "dead_letters"])
      await expect.poll(() => databases.query(service, `SELECT * FROM ${table}`), { timeout: 5_000 }).toEqual([]);
});
