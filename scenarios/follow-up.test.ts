import { randomUUID } from "node:crypto";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { Order_Status, OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { FindStaleOrdersSchema, FollowUpOrderSchema } from "#contracts/polis/orders/v1/tasks_pb.ts";
import { Charge_Status, PaymentsService } from "#contracts/polis/payments/v1/payments_pb.ts";
import { serviceCaller, userCaller } from "#platform/access/caller.ts";
import { record } from "#platform/events/event-log.testing.ts";
import { firstUuidAt, uuidv7 } from "#platform/ids.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { listTasks } from "#platform/tasks/stored-tasks.ts";
import { accountsService } from "../services/accounts/service.ts";
import { ordersService } from "../services/orders/service.ts";
import { paymentsService } from "../services/payments/service.ts";

// Orders that nothing was heard of, beside the real payments and ledger.
const services = await testServices(accountsService, ordersService, paymentsService);
await services.begin();
const database = services.database("orders");
const payments = services.client(PaymentsService, serviceCaller("orders"));
const { NEW, FINISHED, CANCELED } = Order_Status;
const MINUTE = 60_000;

async function customer(balance: bigint) {
  const userId = randomUUID();
  const caller = userCaller(userId);
  const accounts = services.client(AccountsService, caller);
  const { id: accountId } = await accounts.openAccount({});
  await services.client(PaymentsService, caller).topUp({ accountId, amount: balance }, { idempotencyKey: "first" });
  const orders = services.client(OrdersService, caller);
  return {
    userId,
    orders,
    balance: async () => (await accounts.getAccount({ accountId })).balance,
    order: (orderId: string) => orders.getOrder({ orderId }),
    /** An order of which nobody was told. */
    async silentOrder(amount: bigint, ageMs: number): Promise<string> {
      const at = new Date(Date.now() - ageMs);
      const id = `${firstUuidAt(at.getTime()).slice(0, 15)}${uuidv7().slice(15)}`;
      await database.query({
        text: "INSERT INTO orders (id, user_id, amount, currency, description, status, created_at) VALUES ($1, $2, $3, 'RUB', '', 'NEW', $4)",
        values: [id, userId, amount, at],
      });
      return id;
    },
    told: (orderId: string, amount: bigint) => record(OrderCreatedSchema, { orderId, userId, amount, currency: "RUB", description: "" }),
  };
}

const findStale = async (olderThanMs = 10 * MINUTE) => {
  await services.enqueue("orders", FindStaleOrdersSchema, { olderThan: durationFromMs(olderThanMs) });
  await services.quiet();
};
const followUpsOf = async (orderId: string) =>
  (await listTasks(database, { type: FollowUpOrderSchema.typeName }, 10_000)).filter(({ key }) => key === orderId);

test("an order that nobody charged is cancelled, and is never charged, though its event comes after all; a younger one waits", async () => {
  const ann = await customer(100n);
  const old = await ann.silentOrder(40n, 11 * MINUTE);
  const young = await ann.silentOrder(40n, 9 * MINUTE);
  await findStale();
  expect(await ann.order(old)).toMatchObject({ status: CANCELED, reason: "charge_cancelled" });
  expect(await ann.order(young)).toMatchObject({ status: NEW });
  await services.eventLog.publish([ann.told(old, 40n), ann.told(young, 40n)]);
  await services.quiet();
  expect(await ann.order(old)).toMatchObject({ status: CANCELED });
  expect(await ann.order(young)).toMatchObject({ status: FINISHED });
  expect(await ann.balance()).toBe(60n);
});

test("an order that was charged, and wasn't told of it, is finished; one that was refused is cancelled for that reason", async () => {
  const bob = await customer(50n);
  const paid = await bob.silentOrder(30n, 20 * MINUTE);
  const refused = await bob.silentOrder(30n, 20 * MINUTE);
  await services.eventLog.publish([bob.told(paid, 30n)]);
  await services.quiet();
  await services.eventLog.publish([bob.told(refused, 30n)]);
  await services.quiet();
  // As if what payments told had been lost.
  const forget = "UPDATE orders SET status = 'NEW', reason = NULL WHERE id = ANY($1::uuid[])";
  await database.query({ text: forget, values: [[paid, refused]] });
  for (const orderId of [paid, refused]) await services.enqueue("orders", FollowUpOrderSchema, { orderId });
  await services.quiet();
  expect(await bob.order(paid)).toMatchObject({ status: FINISHED });
  expect(await bob.order(refused)).toMatchObject({ status: CANCELED, reason: "insufficient_funds" });
  expect(await bob.balance()).toBe(20n);
});

test("however charging and asking race, an order is finished and paid, or cancelled and not", async () => {
  const cid = await customer(1_000n);
  const made = await Promise.all(
    Array.from({ length: 100 }, async (_, i) => {
      const { id } = await cid.orders.createOrder({ amount: 1n });
      await services.enqueue("orders", FollowUpOrderSchema, { orderId: id }, { runAt: timestampFromMs(Date.now() + (i % 20)) });
      return id;
    }),
  );
  await services.quiet();
  const ends = await Promise.all(made.map(async (id) => (await cid.order(id)).status));
  expect(ends).not.toContain(NEW);
  expect(await cid.balance()).toBe(1_000n - BigInt(ends.filter((end) => end === FINISHED).length));
  for (const [i, orderId] of made.entries()) {
    const { status } = await payments.cancelCharge({ orderId, userId: cid.userId, amount: 1n, currency: "RUB" });
    expect(status).toBe(ends[i] === FINISHED ? Charge_Status.SUCCEEDED : Charge_Status.FAILED);
  }
  expect(await listTasks(database, { state: "FAILED" }, 10)).toEqual([]);
});

test("however many have stayed, each is followed up once, and what was looked through isn't looked at again", async () => {
  const dan = await customer(1n);
  await database.query({
    text: `INSERT INTO orders (id, user_id, amount, currency, description, status, created_at)
           SELECT ('01930000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, $1, 1, 'RUB', '', 'NEW', now() FROM generate_series(1, 1200) n`,
    values: [dan.userId],
  });
  await database.query({ text: "DELETE FROM follow_ups" });
  await findStale();
  const left = "SELECT FROM orders WHERE status = 'NEW' AND user_id = $1";
  expect((await database.query({ text: left, values: [dan.userId] })).rowCount).toBe(0);
  const followUps = async () => (await listTasks(database, { type: FollowUpOrderSchema.typeName }, 10_000)).length;
  const made = await followUps();
  await findStale();
  expect(await followUps()).toBe(made);
});

test("two who look through the same orders at once have each followed up once, and one that has ended not at all", async () => {
  const eve = await customer(10n);
  const [stale, paid] = [await eve.silentOrder(1n, 20 * MINUTE), await eve.silentOrder(1n, 20 * MINUTE)];
  await services.eventLog.publish([eve.told(paid, 1n)]);
  await services.quiet();
  // As a second one begins: with the mark, and the order, as the first one found them.
  for (const _ of ["first", "second"]) {
    await database.query({ text: "DELETE FROM follow_ups" });
    await database.query({ text: "UPDATE orders SET status = 'NEW', reason = NULL WHERE id = $1", values: [stale] });
    await findStale();
  }
  expect([await followUpsOf(stale), await followUpsOf(paid)]).toMatchObject([[{ state: "DONE", attempts: 1 }], []]);
});

test("the mark of what was looked through doesn't go back, though one looks that is behind", async () => {
  const mark = async () => (await database.query({ text: "SELECT * FROM follow_ups" })).rows;
  await findStale();
  const before = await mark();
  await findStale(60 * MINUTE);
  expect(await mark()).toEqual(before);
  await findStale();
  expect(await mark()).not.toEqual(before);
});

test("an order whose charge was called off is cancelled, though whoever asked never heard the answer", async () => {
  const fay = await customer(10n);
  const orderId = await fay.silentOrder(1n, 0);
  await payments.cancelCharge({ orderId, userId: fay.userId, amount: 1n, currency: "RUB" });
  await services.quiet();
  expect(await fay.order(orderId)).toMatchObject({ status: CANCELED, reason: "charge_cancelled" });
});
