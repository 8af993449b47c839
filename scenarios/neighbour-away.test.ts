import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { settled } from "./support/settled.ts";
import { testDatabases } from "./support/test-databases.ts";
import { startTestPolis } from "./support/test-polis.ts";

/** How long accounts is away: some fifteen tries of its callers. */
const AWAY_MS = 1_500;
const timings = { firstPauseMs: 20, longestPauseMs: 100 };

const databases = await testDatabases();

test("with accounts away orders are taken, none becomes a dead letter, and every one ends when it is back", async () => {
  const accounts = await startTestPolis(databases, { services: ["accounts"] });
  const address = accounts.grpc();
  const shop = await startTestPolis(databases, {
    services: ["gateway", "orders", "payments"],
    environment: { ACCOUNTS_URL: address },
    timings,
  });
  const rest = shop.rest(randomUUID());
  const opened = await rest.openAccount();
  expect(opened).toMatchObject({ status: 201 });
  const account = opened.body;
  expect((await rest.topUp(account.id, 1_000, "before")).status).toBe(201);

  await accounts.stop();
  const placed = await Promise.all(Array.from({ length: 15 }, () => rest.createOrder({ amount: 100 })));
  expect(placed.map(({ status }) => status)).toEqual(placed.map(() => 201));
  const refused = await rest.topUp(account.id, 500, "meanwhile");
  expect([refused.status, refused.body.code]).toEqual([503, "unavailable"]);
  await sleep(AWAY_MS);
  for (const service of ["payments", "orders"]) expect(await databases.query(service, "SELECT * FROM dead_letters")).toEqual([]);
  expect((await rest.orders("?status=NEW")).body.orders).toHaveLength(15);

  const back = await startTestPolis(databases, { services: ["accounts"], environment: { GRPC_PORT: address.split(":").at(-1) ?? "" } });
  const ended = await Promise.all(placed.map(({ body }) => settled(rest, body.id)));
  expect(ended.filter(({ status }) => status === "FINISHED")).toHaveLength(10);
  expect(ended.filter(({ reason }) => reason === "insufficient_funds")).toHaveLength(5);
  expect((await rest.topUp(account.id, 500, "meanwhile")).status).toBe(201);
  expect((await rest.account(account.id)).body.balance).toBe("500");
  for (const service of ["payments", "orders"]) expect(await databases.query(service, "SELECT * FROM dead_letters")).toEqual([]);
  await shop.stop();
  await back.stop();
});
