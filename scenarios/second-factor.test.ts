import { randomUUID } from "node:crypto";
import { type TOTP, URI } from "otpauth";
import { expect, test } from "vitest";
import { freePort } from "#platform/process/free-port.testing.ts";
import { mailboxAt } from "./support/mailbox.ts";
import { type Rest, restOf } from "./support/rest-client.ts";
import { testDatabases } from "./support/test-databases.ts";
import { startTestPolis } from "./support/test-polis.ts";

/* A user with an authenticator app, by REST alone. */

type Tokens = { readonly accessToken: string; readonly sessionId: string };

const password = "seven purple otters dance";
const port = await freePort();
const mailbox = mailboxAt(port);
const polis = await startTestPolis(await testDatabases(), { environment: { MAILBOX_PORT: String(port) } });
const guest = polis.rest();
const as = ({ accessToken }: Tokens): Rest => restOf(polis.http, { authorization: `Bearer ${accessToken}` });
const post = <T = Record<string, unknown>>(rest: Rest, path: string, body: object = {}) => rest.call<T>("POST", path, { body });

test("who turns a second factor on signs in with it, does with it what needs it, and is told by letters", async () => {
  const email = `${randomUUID()}@example.com`;
  const { body: asked } = await post<{ challengeId: string }>(guest, "/auth/sign-up", { email, password });
  const code = await mailbox.codeTo(email, /to sign up/);
  const { body: first } = await post<Tokens>(guest, "/auth/sign-up/confirm", { challengeId: asked.challengeId, code });

  expect((await post(as(first), "/auth/2fa/totp")).body.code).toBe("wrong_password");
  const setup = await post<{ uri: string }>(as(first), "/auth/2fa/totp", { password });
  expect(setup.status).toBe(201);
  const app = URI.parse(setup.body.uri) as TOTP;
  const confirmed = await post<{ tokens: Tokens; recoveryCodes: string[] }>(as(first), "/auth/2fa/totp/confirm", { code: app.generate() });
  expect(confirmed.status).toBe(200);
  const { tokens, recoveryCodes } = confirmed.body;
  // The token of before tells less of its user than is so.
  await expect.poll(async () => (await as(first).accounts()).body.code, { timeout: 1_000, interval: 20 }).toBe("token_revoked");
  expect((await as(tokens).call("GET", "/auth/2fa")).body).toMatchObject({ on: true, recoveryCodesLeft: 10 });

  const signIn = async () =>
    (await post<{ secondFactor: { challengeId: string } }>(guest, "/auth/sign-in", { email, password })).body.secondFactor.challengeId;
  const next = { challengeId: await signIn(), code: app.generate({ timestamp: Date.now() + 30_000 }) };
  const entered = await post<Tokens>(guest, "/auth/sign-in/second-factor", next);
  expect(entered.status).toBe(200);
  const replayed = await post(guest, "/auth/sign-in/second-factor", { ...next, challengeId: await signIn() });
  expect([replayed.status, replayed.body.code]).toEqual([401, "invalid_code"]);

  const replaced = await post<{ recoveryCodes: string[] }>(as(entered.body), "/auth/2fa/recovery-codes");
  expect([replaced.status, replaced.body.recoveryCodes.length]).toEqual([200, 10]);
  const off = (recoveryCode: string | undefined) => post<Tokens>(as(entered.body), "/auth/2fa/disable", { password, code: recoveryCode });
  expect((await off(recoveryCodes[0])).status).toBe(403);
  const without = await off(replaced.body.recoveryCodes[0]);
  expect(without.status).toBe(200);
  expect((await post(as(without.body), "/auth/2fa/recovery-codes")).status).toBe(403);
  expect((await post<{ tokens?: Tokens }>(guest, "/auth/sign-in", { email, password })).body.tokens).toBeDefined();

  const letters = async () => (await mailbox.lettersTo(email)).map(({ subject }) => subject);
  await expect
    .poll(letters)
    .toEqual(expect.arrayContaining(["Your account has a second factor", "Your account has no second factor any more"]));
});
