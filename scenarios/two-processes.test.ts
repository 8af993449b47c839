import { randomUUID } from "node:crypto";
import { afterAll, expect, test } from "vitest";
import { groupName } from "#platform/events/define-consumer.ts";
import { accessTokens } from "../services/auth/keys/access-tokens.testing.ts";
import { orderPayments } from "../systems/order-payments.ts";
import { type PolisChild, startPolisChild } from "./support/polis-child.ts";
import { type Rest, restOf } from "./support/rest-client.ts";
import { settled } from "./support/settled.ts";
import { SECRET, testDatabases } from "./support/test-databases.ts";
import { reachTestLog } from "./support/test-polis.ts";
import { until } from "./support/until.ts";

const databases = await testDatabases({ migrated: false });
const children: PolisChild[] = [];
afterAll(async () => {
  for (const child of children) {
    child.signal("SIGKILL");
    await child.ended;
  }
});

const start = (): PolisChild => {
  const child = startPolisChild([], databases.environment);
  children.push(child);
  return child;
};

const httpOf = async (child: PolisChild): Promise<string> => (await child.ready).http;

/** Every group is shared by two. */
const twoEach = Object.fromEntries(
  orderPayments.services.flatMap(({ name, consumers }) => Object.keys(consumers).map((consumer) => [groupName(name, consumer), 2])),
);

/** How many processes run each group. */
const membersByGroup = async () => Object.fromEntries((await groups.list()).map(({ group, members }) => [group, members]));

async function identityOf(userId: string): Promise<Record<string, string>> {
  const tokenOf = await accessTokens((text) => databases.query("auth", text), SECRET);
  return { authorization: `Bearer ${tokenOf(userId)}` };
}

/** A customer with money; its orders alternate between the processes that answer. */
async function customer(url: string): Promise<{ userId: string; rest: Rest; accountId: string }> {
  const userId = randomUUID();
  const rest = restOf(url, await identityOf(userId));
  const { body } = await rest.openAccount();
  expect((await rest.topUp(body.id, 1_000_000, "money")).status).toBe(201);
  return { userId, rest, accountId: body.id };
}

async function placeOn(urls: readonly string[], userId: string, count: number): Promise<string[]> {
  const identity = await identityOf(userId);
  const placed = await Promise.all(
    Array.from({ length: count }, (_, i) =>
      restOf(urls[i % urls.length] ?? "", identity).createOrder({ amount: 10 }, `order-${i}-${randomUUID()}`),
    ),
  );
  expect(placed.map(({ status }) => status)).toEqual(placed.map(() => 201));
  return placed.map(({ body }) => body.id);
}

async function allFinish(rest: Rest, ids: readonly string[], withinMs: number): Promise<void> {
  for (const id of ids) expect(await settled(rest, id, withinMs)).toMatchObject({ status: "FINISHED" });
}

const [first, second] = [start(), start()];
const urls = [await httpOf(first), await httpOf(second)];
const [firstUrl = "", secondUrl = ""] = urls;

const { groups } = await reachTestLog(databases);

test("two that start at once migrate once, share every group, and have one relay an outbox", async () => {
  const migrated = children.map(
    (child) =>
      child
        .said()
        .split("\n")
        .filter((line) => line.includes('"msg":"migrated"')).length,
  );
  const recorded = await Promise.all(
    [...orderPayments.services.map(({ name }) => name), "kv", ...("KAFKA_URL" in databases.environment ? [] : ["events"])].map((service) =>
      databases.query(service, "SELECT * FROM polis_migrations"),
    ),
  );
  expect((migrated[0] ?? 0) + (migrated[1] ?? 0)).toBe(recorded.flat().length);
  await expect.poll(membersByGroup, { timeout: 15_000 }).toEqual(twoEach);
  for (const service of ["payments", "orders"]) expect(await databases.query(service, "SELECT * FROM outbox_lease")).toHaveLength(1);
  const { userId, rest, accountId } = await customer(firstUrl);
  await allFinish(rest, await placeOn(urls, userId, 40), 10_000);
  expect((await restOf(secondUrl, await identityOf(userId)).account(accountId)).body.balance).toBe("999600");
});

test("the same Idempotency-Key at both at once makes one order", async () => {
  const { userId, rest } = await customer(firstUrl);
  const identity = await identityOf(userId);
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, i) => restOf(urls[i % 2] ?? "", identity).createOrder({ amount: 10 }, "one-for-both")),
  );
  for (const { status, body } of answers) expect([status, body]).toEqual([201, answers[0]?.body]);
  expect((await rest.orders()).body.orders).toHaveLength(1);
});

test("one is frozen: the other takes over within seconds, and what wakes up later does nothing twice", { timeout: 40_000 }, async () => {
  const { userId, rest, accountId } = await customer(secondUrl);
  const before = await placeOn(urls, userId, 20);
  first.signal("SIGSTOP");
  await allFinish(rest, [...before, ...(await placeOn([secondUrl], userId, 20))], 15_000);
  first.signal("SIGCONT");
  await allFinish(rest, await placeOn(urls, userId, 20), 15_000);
  expect((await rest.account(accountId)).body.balance).toBe(String(1_000_000 - 60 * 10));
  await expect.poll(membersByGroup, { timeout: 15_000 }).toEqual(twoEach);
});

test("one is killed: the other takes over within seconds, and a new one shares again", { timeout: 40_000 }, async () => {
  const { userId, rest, accountId } = await customer(firstUrl);
  const before = await placeOn(urls, userId, 20);
  second.signal("SIGKILL");
  await allFinish(rest, [...before, ...(await placeOn([firstUrl], userId, 20))], 15_000);
  expect((await rest.account(accountId)).body.balance).toBe(String(1_000_000 - 40 * 10));
  await start().ready;
  await expect.poll(membersByGroup, { timeout: 15_000 }).toEqual(twoEach);
  for (const service of ["accounts", "payments", "orders"])
    await until(`${service} is empty of what waits`, async () => {
      const rows = await databases.query(
        service,
        "SELECT FROM outbox UNION ALL SELECT FROM outbox_parked UNION ALL SELECT FROM dead_letters",
      );
      return rows.length === 0;
    });
});
