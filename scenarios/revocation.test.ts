import { randomUUID } from "node:crypto";
import { afterAll, expect, test } from "vitest";
import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { freePort } from "#platform/process/free-port.testing.ts";
import { accessTokens } from "../services/auth/keys/access-tokens.testing.ts";
import { type PolisChild, startPolisChild } from "./support/polis-child.ts";
import { type Rest, restOf } from "./support/rest-client.ts";
import { SECRET, testDatabases } from "./support/test-databases.ts";
import { remoteClients } from "./support/test-polis.ts";

/* Three gateways and auth, each a process of its own: who was shut out is shut out everywhere, and who can't know that lets nobody at what is sensitive. */

const databases = await testDatabases();
const ports = { auth: await freePort(), accounts: await freePort(), notifications: await freePort() };
const environment = {
  ...databases.environment,
  AUTH_URL: `127.0.0.1:${ports.auth}`,
  ACCOUNTS_URL: `127.0.0.1:${ports.accounts}`,
  NOTIFICATIONS_URL: `127.0.0.1:${ports.notifications}`,
};
const children = new Set<PolisChild>();
afterAll(async () => {
  for (const child of children) if (child.isRunning()) child.signal("SIGKILL");
  await Promise.all([...children].map(({ ended }) => ended));
});
const start = (services: string, port: number): PolisChild => {
  const child = startPolisChild(["--services", services, "--grpc-port", String(port)], environment);
  children.add(child);
  return child;
};
const startAuth = () => start("auth,notifications", ports.auth);

let auth = startAuth();
const accounts = start("accounts", ports.accounts);
await Promise.all([auth.ready, accounts.ready]);
const gateways = await Promise.all([0, 0, 0].map((port) => start("gateway", port).ready));
const tokenOf = await accessTokens((text) => databases.query("auth", text), SECRET);
const remote = remoteClients(() => `127.0.0.1:${ports.auth}`);
afterAll(() => remote.close());
const admin = remote.clientFor(userCaller(randomUUID(), { roles: ["admin"], secondFactor: true }))(AuthService);

/** They wait for no answer for long: auth may be frozen with it. */
const everywhere = (token: string): Rest[] =>
  gateways.map(({ http }) => restOf(http, { authorization: `Bearer ${token}`, "request-timeout": "0.4" }));
const codes = (rests: readonly Rest[]) => Promise.all(rests.map(async (rest) => (await rest.accounts()).body.code ?? "answered"));
const changePassword = { body: { currentPassword: "x", newPassword: "seven purple otters dance" } };
/** What a sensitive method says: that it isn't known who is shut out, or what it thinks of the request. */
const sensitive = async (rest: Rest) => (await rest.call("POST", "/auth/password/change", changePassword)).status;

const newUser = () =>
  admin.createUser({ contact: { case: "email", value: `${randomUUID()}@example.com` }, password: "seven purple otters dance" });

test("whoever is banned is refused by three gateways within a second", async () => {
  const user = await newUser();
  const rests = everywhere(tokenOf(user.id));
  expect(await codes(rests)).toEqual(["answered", "answered", "answered"]);
  await admin.blockUser({ userId: user.id, reason: "a test" });
  await expect.poll(() => codes(rests), { timeout: 1_000, interval: 20 }).toEqual(["token_revoked", "token_revoked", "token_revoked"]);
});

test("who has other roles is known by them within a second: the tokens of before are refused", async () => {
  const user = await newUser();
  const rests = everywhere(tokenOf(user.id));
  expect(await codes(rests)).toEqual(["answered", "answered", "answered"]);
  await admin.setRoles({ userId: user.id, roles: ["support"] });
  await expect.poll(() => codes(rests), { timeout: 1_000, interval: 20 }).toEqual(["token_revoked", "token_revoked", "token_revoked"]);
  expect(await codes(everywhere(tokenOf(user.id, { version: 2 })))).toEqual(["answered", "answered", "answered"]);
});

test("a gateway that starts later knows who was shut out before", async () => {
  const user = await newUser();
  await admin.blockUser({ userId: user.id, reason: "a test" });
  const { http } = await start("gateway", 0).ready;
  const rest = restOf(http, { authorization: `Bearer ${tokenOf(user.id)}` });
  expect((await rest.accounts()).body.code).toBe("token_revoked");
});

test.each(["SIGSTOP", "SIGKILL"] as const)(
  "with auth gone (%s) what is sensitive is refused within two seconds, and the rest goes on",
  async (how) => {
    const rests = everywhere(tokenOf(randomUUID()));
    const ready = async () => (await rests[0]?.call<{ checks: Record<string, string> }>("GET", "/readyz"))?.body.checks;
    await expect.poll(ready, { timeout: 5_000 }).toMatchObject({ "signing-keys": "ok", revocations: "ok" });
    auth.signal(how);
    await expect.poll(() => Promise.all(rests.map(sensitive)), { timeout: 2_000, interval: 50 }).toEqual([503, 503, 503]);
    await expect.poll(ready, { timeout: 2_000 }).toMatchObject({ "signing-keys": "ok", revocations: "unreachable" });
    expect(await codes(rests)).toEqual(["answered", "answered", "answered"]);
    // Those whose token no gateway has seen before as well.
    expect(await codes(everywhere(tokenOf(randomUUID())))).toEqual(["answered", "answered", "answered"]);

    if (how === "SIGSTOP") auth.signal("SIGCONT");
    else auth = startAuth();
    await auth.ready;
    await expect.poll(() => Promise.all(rests.map(sensitive)), { timeout: 15_000, interval: 100 }).not.toContain(503);
  },
);
