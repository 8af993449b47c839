import { randomUUID } from "node:crypto";
import { afterAll, expect, test } from "vitest";
import type { EventRecord } from "#platform/events/record.ts";
import { freePort } from "#platform/process/free-port.testing.ts";
import { makeNextRelease, nextRelease } from "./support/next-release.ts";
import { type PolisChild, startPolisChild } from "./support/polis-child.ts";
import { type Answer, restOf } from "./support/rest-client.ts";
import { settled } from "./support/settled.ts";
import { testDatabases } from "./support/test-databases.ts";
import { reachTestLog } from "./support/test-polis.ts";
import { until } from "./support/until.ts";

const next = makeNextRelease();
afterAll(() => next.remove());
const databases = await testDatabases();

const ports = {
  gateway: await freePort(),
  orders: [await freePort(), await freePort(), await freePort()],
  payments: await freePort(),
  accounts: await freePort(),
};
const environment = {
  ...databases.environment,
  // No auth is run here: what is tested is what the other services keep.
  POLIS_IDENTITY: "header",
  ORDERS_URL: ports.orders.map((port) => `127.0.0.1:${port}`).join(","),
  PAYMENTS_URL: `127.0.0.1:${ports.payments}`,
  ACCOUNTS_URL: `127.0.0.1:${ports.accounts}`,
};

const children = new Set<PolisChild>();
afterAll(async () => {
  for (const child of children) if (child.isRunning()) child.signal("SIGKILL");
  await Promise.all([...children].map(({ ended }) => ended));
});

async function start(service: string, port: number, root?: string): Promise<PolisChild> {
  const child = startPolisChild(["--services", service, "--grpc-port", String(port)], environment, root);
  children.add(child);
  await child.ready;
  return child;
}

async function stop(child: PolisChild): Promise<void> {
  child.signal("SIGTERM");
  expect(await child.ended).toBe(0);
}

const [accounts, payments, first, second] = await Promise.all([
  start("accounts", ports.accounts),
  start("payments", ports.payments),
  start("orders", ports.orders[0] as number),
  start("orders", ports.orders[1] as number),
]);
const gateway = await start("gateway", ports.gateway);
const rest = restOf((await gateway.ready).http, { "x-user-id": randomUUID() });
const { body: account } = await rest.openAccount();
await rest.topUp(account.id, 10_000_000, "money");

const { log } = await reachTestLog(databases);

/** Orders and reads without a pause, until it is stopped. */
function load() {
  const placed: string[] = [];
  const failed: Answer<object>[] = [];
  let isStopped = false;
  const work = async (): Promise<void> => {
    while (!isStopped) {
      const ordered = await rest.createOrder({ amount: 10 }, randomUUID());
      if (ordered.status === 201) placed.push(ordered.body.id);
      else failed.push(ordered);
      const listed = await rest.orders("?page_size=5");
      if (listed.status !== 200) failed.push(listed);
    }
  };
  const working = Promise.all([work(), work(), work()]);
  return {
    placed,
    failed,
    /** So many more orders were taken. */
    async more(count: number): Promise<void> {
      const before = placed.length;
      await until(`${count} more orders`, () => placed.length >= before + count);
    },
    async stop(): Promise<void> {
      isStopped = true;
      await working;
    },
  };
}

test("a release with more in an event, another event and a migration is rolled out and back under load, and nobody notices", {
  timeout: 120_000,
}, async () => {
  const heard: EventRecord[] = [];
  await log.ensureTopics([{ name: "orders.events", partitions: 4, retentionMs: 7 * 24 * 3_600_000 }]);
  await log.subscribe({ group: "test.hears", topics: ["orders.events"], handle: async ({ records }) => void heard.push(...records) });
  const { placed, failed, more, stop: end } = load();
  await more(50);
  const newer = await start("orders", ports.orders[2] as number, next.root);
  await more(100);
  // An old replica restarts in the middle, on the database that the newer one has migrated.
  await stop(first);
  await more(30);
  const restarted = await start("orders", ports.orders[0] as number);
  await more(50);
  // The newer code alone, and an old one again when it is rolled back.
  await stop(second);
  await stop(restarted);
  await more(100);
  const back = await start("orders", ports.orders[0] as number);
  await more(50);
  await stop(newer);
  await more(50);
  await end();

  expect(failed.map(({ status, body }) => ({ status, body }))).toEqual([]);
  for (const id of placed) expect(await settled(rest, id)).toMatchObject({ status: "FINISHED" });
  expect((await rest.account(account.id)).body.balance).toBe(String(10_000_000 - placed.length * 10));
  // What the newer code told, whoever published it, came through; to those who don't know it, it was nothing.
  await until("every order's events", () => new Set(heard.map(({ key, type }) => `${key} ${type}`)).size >= placed.length);
  expect(heard.filter(({ type }) => type === "polis.orders.v1.OrderSeen").length).toBeGreaterThan(100);
  for (const service of ["payments", "orders"])
    for (const table of ["outbox", "outbox_parked", "dead_letters"])
      await expect.poll(() => databases.query(service, `SELECT * FROM ${table}`), { timeout: 10_000 }).toEqual([]);
  expect(await databases.query("orders", "SELECT release FROM polis_migrations WHERE name = '9001-channel.sql'")).toEqual([
    { release: nextRelease },
  ]);
  for (const child of [back, payments, accounts, gateway]) expect(child.isRunning()).toBe(true);
});
