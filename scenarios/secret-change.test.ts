import { randomUUID } from "node:crypto";
import { type TOTP, URI } from "otpauth";
import { expect, test } from "vitest";
import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { nobody, userCaller } from "#platform/access/caller.ts";
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

test("a second factor outlives the change: it is sealed anew while both count", async () => {
  const services = ["auth", "notifications"];
  // Nobody comes by REST.
  const without = { POLIS_IDENTITY: "header" };
  const [userId, email, password] = [randomUUID(), `${randomUUID()}@example.com`, "seven purple otters dance"];
  const contact = { case: "email", value: email } as const;
  const before = await startTestPolis(databases, { services, environment: { ...without, POLIS_SECRET: SECRET } });
  const guest = before.clientFor(nobody)(AuthService);
  await before
    .clientFor(userCaller(randomUUID(), { roles: ["admin"], secondFactor: true }))(AuthService)
    .createUser({ userId, contact, password });
  const { outcome } = await guest.signIn({ contact, password });
  const sessionId = outcome.case === "tokens" ? outcome.value.sessionId : "";
  const owner = before.clientFor(userCaller(userId, { sessionId }))(AuthService);
  const app = URI.parse((await owner.beginTotp({ password })).uri) as TOTP;
  const { recoveryCodes } = await owner.confirmTotp({ code: app.generate() });
  await before.stop();

  const sealedBy = async () => (await databases.query<{ sealed_by: string }>("auth", "SELECT sealed_by FROM second_factors"))[0]?.sealed_by;
  const sealedBefore = await sealedBy();
  const changing = await startTestPolis(databases, {
    services,
    environment: { ...without, POLIS_SECRET: NEXT, POLIS_SECRET_ALSO: SECRET },
  });
  await databases.query("auth", "UPDATE task_schedules SET next_at = now() WHERE name ILIKE '%reseal%'");
  await expect.poll(sealedBy, { timeout: 20_000 }).not.toBe(sealedBefore);
  await changing.stop();

  const after = await startTestPolis(databases, { services, environment: { ...without, POLIS_SECRET: NEXT } });
  const anew = after.clientFor(nobody)(AuthService);
  const enter = async (code: string) => {
    const { outcome: asked } = await anew.signIn({ contact, password });
    const challengeId = asked.case === "secondFactor" ? asked.value.challengeId : "";
    return anew.signInWithSecondFactor({ challengeId, code });
  };
  expect((await enter(app.generate({ timestamp: Date.now() + 30_000 }))).userId).toBe(userId);
  expect((await enter(recoveryCodes[0] ?? "")).userId).toBe(userId);
  await after.stop();
});
