import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { groupName } from "#platform/events/define-consumer.ts";
import { topicsOf } from "#platform/events/event-types.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { orderPayments } from "../systems/order-payments.ts";
import { settled } from "./support/settled.ts";
import { testDatabases } from "./support/test-databases.ts";
import { reachTestLog, startTestPolis } from "./support/test-polis.ts";
import { until } from "./support/until.ts";

const databases = await testDatabases();
/** Other members are noticed by their heartbeats, so these are quick. */
const timings = { heartbeatMs: 100, memberLeaseMs: 1_000 };

const { log, groups } = await reachTestLog(databases, timings);
await log.ensureTopics(topicsOf(orderPayments.services.flatMap(({ publishes }) => publishes)));
/** Everything that the log got, in no order. */
const heard: EventRecord[] = [];
await log.subscribe({
  group: "test.hears",
  topics: ["orders.events", "payments.events"],
  handle: async ({ records }) => void heard.push(...records),
});

const logged = (topic: string): EventRecord[] => heard.filter((record) => record.topic === topic);

const readers = orderPayments.services.flatMap(({ name, consumers }) =>
  Object.keys(consumers).map((consumer) => groupName(name, consumer)),
);

/** Every group has handled all that the log holds, and nothing is on its way there. */
const caughtUp = () =>
  until("the end of the log", async () => {
    const isRead = async (): Promise<boolean> => {
      const lags = await log.lag();
      return readers.every((reader) => lags.some(({ group }) => group === reader)) && lags.every(({ events }) => events === 0n);
    };
    const outboxes = () => Promise.all(["payments", "orders"].map((service) => databases.query(service, "SELECT FROM outbox")));
    return (await isRead()) && (await outboxes()).every((rows) => rows.length === 0) && (await isRead());
  });

/** Everything that customers and the books could see the difference by. */
async function effects() {
  const settlements = logged("payments.events");
  const [accounts, postings, charges, orders, dead] = await Promise.all([
    databases.query("accounts", "SELECT id, balance FROM accounts ORDER BY id"),
    databases.query("accounts", "SELECT * FROM postings ORDER BY id"),
    databases.query("payments", "SELECT * FROM charges ORDER BY order_id"),
    databases.query("orders", "SELECT * FROM orders ORDER BY id"),
    Promise.all(["payments", "orders"].map((service) => databases.query(service, "SELECT * FROM dead_letters"))),
  ]);
  return { accounts, postings, charges, orders, settlements: settlements.map(({ eventId }) => eventId).sort(), dead: dead.flat() };
}

test("OrderCreated that comes five times, at once and again later, is charged once and told of once", async () => {
  const userId = randomUUID();
  // Payments is away at first, so that its first batch holds the event five times.
  const shop = await startTestPolis(databases, { services: ["gateway", "orders", "accounts"], timings });
  const rest = shop.rest(userId);
  const account = (await rest.openAccount()).body;
  const { status, body: order } = await rest.createOrder({ amount: 400 });
  expect(status).toBe(201);
  const created = await until("the order's event", async () => logged("orders.events")[0]);
  await log.publish([created, created, created, created]);
  const withPayments = await startTestPolis(databases, {
    services: ["payments", "gateway"],
    environment: {
      ACCOUNTS_URL: shop.grpc(),
      ORDERS_URL: shop.grpc(),
    },
    timings,
  });
  expect(await settled(rest, order.id)).toMatchObject({ status: "CANCELED", reason: "insufficient_funds" });
  await caughtUp();
  expect((await effects()).settlements).toHaveLength(1);

  // Money comes in: what was decided stays decided, whoever says it again.
  expect((await withPayments.rest(userId).topUp(account.id, 1_000, "money")).status).toBe(201);
  await log.publish([created]);
  await caughtUp();
  expect((await rest.order(order.id)).body.status).toBe("CANCELED");

  const paid = (await rest.createOrder({ amount: 400 })).body;
  await settled(rest, paid.id);
  const again = await until("the order's event", async () => logged("orders.events").find(({ key }) => key === paid.id));
  for (let time = 0; time < 4; time++) await log.publish([again]);
  await caughtUp();
  expect(await effects()).toMatchObject({
    accounts: [{ balance: "600" }],
    charges: [{ status: "FAILED" }, { status: "SUCCEEDED" }],
    settlements: [expect.any(String), expect.any(String)],
    dead: [],
  });
  expect((await databases.query("accounts", "SELECT FROM postings WHERE reference_order_id = $1", [paid.id])).length).toBe(1);
  await withPayments.stop();
  await shop.stop();
});

test("replayed from the start of the log with the inboxes emptied, nothing happens a second time", async () => {
  const before = await startTestPolis(databases, { timings });
  const rest = before.rest(randomUUID());
  const { body: account } = await rest.openAccount();
  await rest.topUp(account.id, 500, "money");
  const placed = await Promise.all(Array.from({ length: 12 }, () => rest.createOrder({ amount: 100 })));
  for (const { body } of placed) await settled(rest, body.id);
  await caughtUp();
  await before.stop();
  const seen = await effects();
  expect(seen.charges.length).toBeGreaterThanOrEqual(12);

  for (const service of ["payments", "orders"]) await databases.query(service, "DELETE FROM inbox");
  for (const { group } of await groups.list())
    if (group !== "test.hears") await until(`${group} is dropped`, async () => groups.drop(group).then(() => true));
  const after = await startTestPolis(databases, { timings });
  await caughtUp();
  const [handled] = await databases.query<{ count: string }>(
    "payments",
    `SELECT count(*) FROM inbox JOIN inbox_groups g ON g.id = group_id WHERE g.name = 'payments.on-order-created'`,
  );
  expect(BigInt(handled?.count ?? 0)).toBe(BigInt(seen.orders.length));
  expect(await effects()).toEqual(seen);
  await after.stop();
});
