import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { urlOf } from "#platform/postgres/connection-url.testing.ts";
import { testLog } from "#platform/postgres/database.testing.ts";
import { startEmbeddedPostgres } from "#platform/postgres/embedded.ts";
import { databaseName } from "#platform/process/databases.ts";
import { settled } from "./support/settled.ts";
import { enginesOfTests, queryOn, SECRET } from "./support/test-databases.ts";
import { isApart, startTestPolis } from "./support/test-polis.ts";
import { until } from "./support/until.ts";

// A server of its own, to be stopped. Named so that the next run ends what a killed one left.
const folder = await mkdtemp(join(tmpdir(), `polis-test-${process.pid}-away-`));
const startServer = () => startEmbeddedPostgres({ folder, log: testLog, durable: false });
let postgres = await startServer();
afterAll(async () => {
  await postgres.stop();
  await rm(folder, { recursive: true, force: true });
});

test("with the database away everything is answered as to be tried again, and goes on when it is back", { timeout: 60_000 }, async () => {
  const polis = await startTestPolis(
    {
      environment: { POLIS_SECRET: SECRET, POSTGRES_URL: urlOf(postgres.connection("postgres")), MAILBOX_PORT: "0", ...enginesOfTests() },
      query: (service, text) => queryOn(postgres.connection(databaseName(service)), text),
    },
    { timings: { longestPauseMs: 500 } },
  );
  const rest = polis.rest(randomUUID());
  const { body: account } = await rest.openAccount();
  await rest.topUp(account.id, 1_000, "money");
  const { body: order } = await rest.createOrder({ amount: 100 }, "order");
  await settled(rest, order.id);

  await postgres.stop();
  const answers = await Promise.all([
    rest.accounts(),
    rest.account(account.id),
    rest.transactions(account.id),
    rest.orders(),
    rest.order(order.id),
    rest.openAccount(),
    rest.topUp(account.id, 5, "while-away"),
    rest.createOrder({ amount: 5 }, "while-away"),
  ]);
  for (const { status, headers, body } of answers)
    expect({ status, code: body.code, again: headers["retry-after"] }).toEqual({ status: 503, code: "unavailable", again: "1" });
  // A gateway without a database of its own is ready: its answers say what is away.
  expect((await rest.call("GET", "/readyz")).status).toBe(isApart ? 200 : 503);
  expect((await rest.call("GET", "/healthz")).status).toBe(200);

  postgres = await startServer();
  await until("an answer", async () => (await rest.accounts()).status === 200);
  const { body: taken } = await rest.createOrder({ amount: 900 }, "while-away-again");
  expect(await settled(rest, taken.id)).toMatchObject({ status: "FINISHED" });
  expect((await rest.account(account.id)).body.balance).toBe("0");
  await polis.stop();
});
