import { randomInt, randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { freePort } from "#platform/process/free-port.testing.ts";
import { mailboxAt } from "./support/mailbox.ts";
import { type Rest, restOf } from "./support/rest-client.ts";
import { testDatabases } from "./support/test-databases.ts";
import { startTestPolis } from "./support/test-polis.ts";

/* Users as they come: by REST alone, with what lands in their letters. */

type Tokens = { readonly accessToken: string; readonly refreshToken: string; readonly userId: string; readonly sessionId: string };

const PASSWORD = "seven purple otters dance";
const port = await freePort();
const mailbox = mailboxAt(port);
const polis = await startTestPolis(await testDatabases(), { environment: { MAILBOX_PORT: String(port) } });
const guest = polis.rest();
const as = ({ accessToken }: Pick<Tokens, "accessToken">): Rest => restOf(polis.http, { authorization: `Bearer ${accessToken}` });
const post = <T = object>(rest: Rest, path: string, body: object = {}) => rest.call<T>("POST", path, { body });

async function signUp(contact: { email: string } | { phone: string }): Promise<Tokens> {
  const { status, body: challenge } = await post<{ challengeId: string }>(guest, "/auth/sign-up", { ...contact, password: PASSWORD });
  expect(status).toBe(202);
  const code = await mailbox.codeTo("email" in contact ? contact.email : contact.phone, /to sign up/);
  const confirmed = await post<Tokens>(guest, "/auth/sign-up/confirm", { challengeId: challenge.challengeId, code });
  expect(confirmed.status).toBe(201);
  return confirmed.body;
}

const signIn = async (contact: object): Promise<Tokens> =>
  (await post<{ tokens: Tokens }>(guest, "/auth/sign-in", { ...contact, password: PASSWORD })).body.tokens;

const someEmail = (): string => `${randomUUID()}@example.com`;

test("who signs up by e-mail or phone confirms it by the code that comes, and orders at once", async () => {
  for (const contact of [{ email: someEmail() }, { phone: `+1${randomInt(10 ** 9, 10 ** 10 - 1)}` }]) {
    const tokens = await signUp(contact);
    const { status, body } = await as(tokens).openAccount({ currency: "RUB" });
    expect([status, body.userId]).toEqual([201, tokens.userId]);
    expect((await signIn(contact)).userId).toBe(tokens.userId);
  }
});

test("tokens are refreshed, and a session that is ended is over at once, at the edge too", async () => {
  const tokens = await signUp({ email: someEmail() });
  const refreshed = await post<Tokens>(guest, "/auth/refresh", { refreshToken: tokens.refreshToken });
  expect(refreshed.status).toBe(200);
  expect((await as(refreshed.body).call("GET", "/auth/sessions")).body).toMatchObject({
    sessions: [{ id: tokens.sessionId, current: true }],
  });
  expect((await post(as(refreshed.body), "/auth/sign-out")).status).toBe(204);
  await expect.poll(async () => (await as(refreshed.body).accounts()).body.code, { timeout: 1_000, interval: 20 }).toBe("token_revoked");
  expect((await post(guest, "/auth/refresh", { refreshToken: refreshed.body.refreshToken })).body.code).toBe("invalid_refresh_token");
});

test("a forgotten password is set anew by a code, and every session ends", async () => {
  const email = someEmail();
  const before = await signUp({ email });
  const { body } = await post<{ challengeId: string }>(guest, "/auth/codes", { email, purpose: "RESET_PASSWORD" });
  const code = await mailbox.codeTo(email, /new password/);
  const newPassword = "eight yellow herons sing";
  expect((await post(guest, "/auth/password/reset", { challengeId: body.challengeId, code, newPassword })).status).toBe(204);
  await expect.poll(async () => (await as(before).accounts()).body.code, { timeout: 1_000, interval: 20 }).toBe("token_revoked");
  expect((await post(guest, "/auth/sign-in", { email, password: PASSWORD })).body.code).toBe("invalid_credentials");
  expect((await post(guest, "/auth/sign-in", { email, password: newPassword })).status).toBe(200);
  await expect.poll(async () => (await mailbox.lettersTo(email)).map(({ subject }) => subject)).toContain("Your password was changed");
});

test("a token that isn't ours, was changed or is over is told so, and what is public goes on with it", async () => {
  const { accessToken } = await signUp({ email: someEmail() });
  const [header, payload, signature] = accessToken.split(".") as [string, string, string];
  const claims = JSON.parse(Buffer.from(payload, "base64url").toString());
  const encoded = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const head = JSON.parse(Buffer.from(header, "base64url").toString());
  const forged = [
    "x",
    `${header}.${payload}.`,
    `${header}.${encoded({ ...claims, roles: ["admin"] })}.${signature}`,
    `${encoded({ ...head, alg: "none" })}.${payload}.`,
    `${encoded({ ...head, alg: "HS256" })}.${payload}.${signature}`,
    `${encoded({ ...head, kid: "../../etc/passwd" })}.${payload}.${signature}`,
    `${encoded({ ...head, typ: "JWT" })}.${payload}.${signature}`,
  ];
  for (const token of forged) {
    const { status, headers, body } = await as({ accessToken: token }).accounts();
    expect([token, status, body.code, headers["www-authenticate"]]).toEqual([token, 401, "invalid_token", 'Bearer realm="polis"']);
    expect((await as({ accessToken: token }).call("GET", "/.well-known/jwks.json")).status).toBe(200);
  }
  for (const authorization of ["Basic YTpi", "Bearer", "bearer  ", `Bearer ${accessToken} ${accessToken}`])
    expect((await restOf(polis.http, { authorization }).accounts()).body.code).toBe("invalid_token");
});

test("a key does what its scopes name, for its owner, and is refused within a second of its end", async () => {
  const tokens = await signUp({ email: someEmail() });
  await as(tokens).openAccount({ currency: "RUB" });
  const made = await post<{ key: string; apiKey: { id: string } }>(as(tokens), "/api-keys", { name: "books", scopes: ["accounts:read"] });
  expect(made.status).toBe(201);
  const program = restOf(polis.http, { "x-api-key": made.body.key });
  expect((await program.accounts()).body.accounts).toHaveLength(1);
  expect((await program.openAccount()).body.code).toBe("forbidden");
  expect((await program.orders()).body.code).toBe("forbidden");
  const both = restOf(polis.http, { "x-api-key": made.body.key, authorization: `Bearer ${tokens.accessToken}` });
  expect((await both.accounts()).body.code).toBe("invalid_token");
  expect((await restOf(polis.http, { "x-api-key": `${made.body.key}x` }).accounts()).body.code).toBe("invalid_api_key");
  expect((await as(tokens).call("DELETE", `/api-keys/${made.body.apiKey.id}`)).status).toBe(204);
  await expect.poll(async () => (await program.accounts()).body.code, { timeout: 1_000, interval: 20 }).toBe("invalid_api_key");
});
