import { randomUUID } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { AccountsService, Posting_Outcome, type PostRequestSchema } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { PaymentFailedSchema, PaymentSucceededSchema } from "#contracts/polis/payments/v1/events_pb.ts";
import { PaymentsService, TopUpRequestSchema } from "#contracts/polis/payments/v1/payments_pb.ts";
import { serviceCaller, userCaller } from "#platform/access/caller.ts";
import { record } from "#platform/events/event-log.testing.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { uuidv7 } from "#platform/ids.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { commandOf } from "#platform/writes/idempotency.ts";
import { accountsService } from "../services/accounts/service.ts";
import { paymentsService } from "../services/payments/service.ts";

// payments beside the real ledger, each on its own database.
const services = await testServices(accountsService, paymentsService);
const ledger = services.client(AccountsService, serviceCaller("payments"));
const heard = await services.hear();
await services.begin();

async function customer(balance = 0n) {
  const caller = userCaller(randomUUID());
  const accounts = services.client(AccountsService, caller);
  const { id } = await accounts.openAccount({});
  const payments = services.client(PaymentsService, caller);
  const topUp = (amount: bigint, key: string, accountId = id) => payments.topUp({ accountId, amount }, { idempotencyKey: key });
  if (balance > 0n) await topUp(balance, "first");
  return {
    id,
    caller,
    topUp,
    balance: async () => (await accounts.getAccount({ accountId: id })).balance,
    /** The id that a top-up's posting has. */
    postingId: (amount: bigint, key: string) =>
      commandOf(PaymentsService.method.topUp, caller, key, create(TopUpRequestSchema, { accountId: id, amount })).key,
  };
}

/** The posting that a top-up makes. */
const topUpPosting = (postingId: string, accountId: string, amount: bigint): MessageInitShape<typeof PostRequestSchema> => ({
  postingId,
  legs: [
    {
      debit: { account: { case: "house", value: "world" } },
      credit: { account: { case: "accountId", value: accountId } },
      amount,
      currency: "RUB",
    },
  ],
});

const rowsOf = async (table: "top_ups" | "charges", column: string, id: string) =>
  (await services.database("payments").query({ text: `SELECT * FROM ${table} WHERE ${column} = $1`, values: [id] })).rows;
const forgetKeys = () => services.database("payments").query({ text: "DELETE FROM idempotency" });

test("a crash between the posting and its own row is mended by the repeat: the money is there once, and is told", async () => {
  const a = await customer();
  const postingId = a.postingId(50n, "k");
  const posted = await ledger.post(topUpPosting(postingId, a.id, 50n));
  expect(await rowsOf("top_ups", "id", postingId)).toEqual([]);
  const answer = await a.topUp(50n, "k");
  expect(answer).toMatchObject({ id: postingId, accountId: a.id, amount: 50n, createdAt: posted.createdAt });
  expect(await rowsOf("top_ups", "id", postingId)).toMatchObject([{ account_id: a.id, amount: 50n }]);
  expect(await a.topUp(50n, "k")).toEqual(answer);
  expect(await a.balance()).toBe(50n);
});

test("another request under a key whose first one crashed after its posting is refused, and the first can still be repeated", async () => {
  const a = await customer();
  await ledger.post(topUpPosting(a.postingId(50n, "k"), a.id, 50n));
  await expect(a.topUp(51n, "k")).rejects.toMatchObject({ status: "ALREADY_EXISTS", code: "idempotency_key_reused" });
  expect((await a.topUp(50n, "k")).amount).toBe(50n);
  expect(await a.balance()).toBe(50n);
});

test("a repeat that comes after its key was forgotten gets the same transaction, and moves nothing", async () => {
  const a = await customer();
  const first = await a.topUp(50n, "k");
  await forgetKeys();
  expect(await a.topUp(50n, "k")).toEqual(first);
  await forgetKeys();
  await expect(a.topUp(51n, "k")).rejects.toMatchObject({ code: "idempotency_key_reused" });
  expect(await a.balance()).toBe(50n);
  expect(await rowsOf("top_ups", "account_id", a.id)).toHaveLength(1);
});

test("a top-up under one key, twenty times at once over two processes, moves money once", async () => {
  const [a, copy] = [await customer(), await services.copy()];
  const other = copy.client(PaymentsService, a.caller);
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      i % 2 === 0 ? a.topUp(7n, "k") : other.topUp({ accountId: a.id, amount: 7n }, { idempotencyKey: "k" }),
    ),
  );
  for (const answer of answers) expect(answer).toEqual(answers[0]);
  expect(await a.balance()).toBe(7n);
});

test("another's account can't be topped up, and neither can one beyond 2^63-1", async () => {
  const [a, b] = [await customer(1n), await customer()];
  await expect(a.topUp(5n, "k", b.id)).rejects.toMatchObject({ status: "NOT_FOUND", code: "account_not_found" });
  await expect(a.topUp(2n ** 63n - 1n, "l")).rejects.toMatchObject({ status: "FAILED_PRECONDITION", code: "balance_out_of_range" });
  expect([await a.balance(), await b.balance()]).toEqual([1n, 0n]);
});

const orderCreated = (orderId: string, userId: string, amount: bigint, eventId = uuidv7()): EventRecord =>
  record(OrderCreatedSchema, { orderId, userId, amount, currency: "RUB", description: "" }, eventId);
/** The leg of the posting that pays an order. */
const saleOf = (userId: string, amount: bigint) => ({
  debit: { account: { case: "owner" as const, value: { userId } } },
  credit: { account: { case: "house" as const, value: "sales" } },
  amount,
  currency: "RUB",
});
const toldOf = (orderId: string) =>
  heard.filter(({ key, topic }) => topic === "payments.events" && key === orderId).map(({ type }) => type);

test("OrderCreated that comes five times, and again with the inbox emptied, charges once and is told once", async () => {
  const a = await customer(100n);
  const [paid, unpaid] = [uuidv7(), uuidv7()];
  const events = [orderCreated(paid, a.caller.userId, 60n), orderCreated(unpaid, a.caller.userId, 101n)];
  for (let times = 0; times < 3; times += 1) await services.eventLog.publish(events);
  await services.eventLog.publish([orderCreated(paid, a.caller.userId, 60n), orderCreated(unpaid, a.caller.userId, 101n)]);
  await services.quiet();
  await services.database("payments").query({ text: "DELETE FROM inbox" });
  // Money enough by now; but that the order isn't paid was said.
  await a.topUp(1_000n, "more");
  await services.eventLog.publish(events);
  await services.quiet();
  expect(await a.balance()).toBe(1_040n);
  expect(await rowsOf("charges", "order_id", paid)).toMatchObject([{ status: "SUCCEEDED", reason: null, amount: 60n }]);
  expect(await rowsOf("charges", "order_id", unpaid)).toMatchObject([{ status: "FAILED", reason: "insufficient_funds" }]);
  expect(toldOf(paid)).toEqual([PaymentSucceededSchema.typeName]);
  expect(toldOf(unpaid)).toEqual([PaymentFailedSchema.typeName]);
});

test("a charge that was posted before a crash is told after it, and one that was voided never will be paid", async () => {
  const a = await customer(100n);
  const [posted, voided] = [uuidv7(), uuidv7()];
  expect((await ledger.post({ postingId: posted, legs: [saleOf(a.caller.userId, 30n)], referenceOrderId: posted })).outcome).toBe(
    Posting_Outcome.POSTED,
  );
  await ledger.void({ postingId: voided });
  await services.eventLog.publish([orderCreated(posted, a.caller.userId, 30n), orderCreated(voided, a.caller.userId, 30n)]);
  await services.quiet();
  expect(await a.balance()).toBe(70n);
  expect(toldOf(posted)).toEqual([PaymentSucceededSchema.typeName]);
  expect(toldOf(voided)).toEqual([PaymentFailedSchema.typeName]);
  expect(await rowsOf("charges", "order_id", voided)).toMatchObject([{ reason: "charge_cancelled" }]);
});

test("a charge that is called off is told once, however often it is asked for, as is one that turns out to be posted", async () => {
  const a = await customer(100n);
  const { userId } = a.caller;
  const [early, late] = [uuidv7(), uuidv7()];
  await ledger.post({ postingId: late, legs: [saleOf(userId, 30n)], referenceOrderId: late });
  const asOrders = services.client(PaymentsService, serviceCaller("orders"));
  for (const orderId of [early, early, late, late]) await asOrders.cancelCharge({ orderId, userId, amount: 30n, currency: "RUB" });
  await services.eventLog.publish([orderCreated(early, userId, 30n), orderCreated(late, userId, 30n)]);
  await services.quiet();
  expect(toldOf(early)).toEqual([PaymentFailedSchema.typeName]);
  expect(toldOf(late)).toEqual([PaymentSucceededSchema.typeName]);
  expect(await a.balance()).toBe(70n);
});
