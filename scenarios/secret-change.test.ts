import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { SECRET, testDatabases } from "./support/test-databases.ts";
import { startTestPolis } from "./support/test-polis.ts";

const NEXT = "the next secret of a deployment that is there for its tests alone";
const databases = await testDatabases();

/** What a customer gets who opens an account at a gateway under one secret, whose accounts run under another. */
async function opening(gateway: Record<string, string>, accounts: Record<string, string>): Promise<number> {
  const callee = await startTestPolis(databases, { services: ["accounts"], environment: accounts });
  const caller = await startTestPolis(databases, { services: ["gateway"], environment: { ...gateway, ACCOUNTS_URL: callee.grpc() } });
  const { status } = await caller.rest(randomUUID()).openAccount();
  await caller.stop();
  await callee.stop();
  return status;
}

test("the secret between processes is changed one process after another, and all the while they take each other's word", async () => {
  const first = { POLIS_SECRET: SECRET, POLIS_SECRET_ALSO: NEXT };
  const second = { POLIS_SECRET: NEXT, POLIS_SECRET_ALSO: SECRET };
  const [before, after] = [{ POLIS_SECRET: SECRET }, { POLIS_SECRET: NEXT }];
  for (const [gateway, accounts] of [
    [before, first],
    [first, before],
    [first, second],
    [second, first],
    [second, after],
    [after, second],
  ] as const)
    expect(await opening(gateway, accounts)).toBe(201);
});

test("a process under another secret is told nothing, and its users to come again", async () => {
  expect(await opening({ POLIS_SECRET: NEXT }, { POLIS_SECRET: SECRET })).toBe(503);
});
