import { randomUUID } from "node:crypto";
import { Secret } from "otpauth";
import { expect, test } from "vitest";
import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { claimsOf, failure, lettersTo, PASSWORD, someEmail, tokensIn } from "../auth.testing.ts";
import { authService } from "../service.ts";
import { appOf, challengeIn, secondFactorClients } from "./second-factor.testing.ts";

const services = await testServices(authService);
const { guest, as, admin, register, enrol, refresh, changesOf, database } = secondFactorClients(services);
const other = secondFactorClients(await services.copy());
const begin = (tokens: Parameters<typeof as>[0], password = PASSWORD) => as(tokens).beginTotp({ password });

test("a secret counts for nothing before it is confirmed", async () => {
  const contact = someEmail();
  const tokens = await register(contact);
  const { secret, uri, expiresAt } = await begin(tokens);
  expect(appOf({ uri }).totp).toMatchObject({ issuer: "Polis", label: contact.value, secret: { base32: secret } });
  expect(Number(expiresAt?.seconds) - Date.now() / 1000).toBeGreaterThan(14 * 60);
  expect(await as(tokens).getSecondFactor({})).toMatchObject({ on: false, recoveryCodesLeft: 0 });
  expect(tokensIn(await guest.signIn({ contact, password: PASSWORD })).userId).toBe(tokens.userId);
  expect(await failure(as(tokens).verifySecondFactor({ code: appOf({ uri }).code() }))).toBe("second_factor_off");
});

test("a code of the app turns it on: ten recovery codes, a session with a second factor, and all are told", async () => {
  const contact = someEmail();
  const first = await register(contact);
  const app = appOf(await begin(first));
  expect(await failure(as(first).confirmTotp({ code: app.wrongCode() }))).toBe("wrong_code");
  const { tokens, recoveryCodes } = await as(first).confirmTotp({ code: app.code() });
  expect(new Set(recoveryCodes).size).toBe(10);
  expect(tokens).toMatchObject({ userId: first.userId, sessionId: first.sessionId });
  expect(claimsOf(tokens!)).toMatchObject({ mfa: true, ver: 2 });
  expect(claimsOf(await refresh(tokens!))).toMatchObject({ mfa: true });
  const status = await as(first).getSecondFactor({});
  expect(status).toMatchObject({ on: true, recoveryCodesLeft: 10 });
  expect(Math.abs(Number(status.onSince?.seconds) - Date.now() / 1000)).toBeLessThan(60);
  expect(await admin.getUser({ userId: first.userId })).toMatchObject({ secondFactor: true });
  expect(await changesOf(first.userId)).toEqual(["turned_on on"]);
  const letters = await lettersTo(services, contact);
  expect(letters.map(({ template }) => template)).toEqual(["confirm-sign-up", "second-factor-on"]);
  expect(Object.keys(letters[1]?.params ?? {}).sort()).toEqual(["device", "time"]);
  const revoked = await database.query({ text: "SELECT version_min FROM revocations WHERE user_id = $1", values: [first.userId] });
  expect(revoked.rows).toEqual([{ version_min: 2 }]);
});

test("the code that turned it on is used by that", async () => {
  const tokens = await register();
  const app = appOf(await begin(tokens));
  const code = app.code();
  await as(tokens).confirmTotp({ code });
  expect(await failure(as(tokens).verifySecondFactor({ code }))).toBe("wrong_code");
  expect(await failure(as(tokens).verifySecondFactor({ code: app.code(1) }))).toBe("answered");
});

test("who has found a session needs the password as well", async () => {
  const tokens = await register();
  expect(await failure(begin(tokens, "not the password"))).toBe("wrong_password");
  expect(await failure(begin(tokens, ""))).toBe("wrong_password");
  expect(await failure(as(tokens).confirmTotp({ code: "000000" }))).toBe("setup_over");
});

test("an account without a password needs a fresh session", async () => {
  const tokens = await register();
  await database.query({ text: "UPDATE users SET password_hash = NULL WHERE id = $1", values: [tokens.userId] });
  expect(await failure(begin(tokens, ""))).toBe("answered");
  await database.query({
    text: "UPDATE sessions SET created_at = created_at - interval '11 minutes' WHERE id = $1",
    values: [tokens.sessionId],
  });
  expect(await failure(begin(tokens, ""))).toBe("session_not_fresh");
});

test("it is asked for by a session that is good, and of one's own", async () => {
  const tokens = await register();
  const strangers = await register();
  const of = (sessionId?: string) => services.client(AuthService, userCaller(tokens.userId, { sessionId }));
  const app = appOf(await begin(tokens));
  for (const client of [of(), of(randomUUID()), of(strangers.sessionId)]) {
    expect(await failure(client.beginTotp({ password: PASSWORD }))).toBe("no_session");
    expect(await failure(client.confirmTotp({ code: app.code() }))).toBe("no_session");
  }
  await as(tokens).signOut({});
  expect(await failure(as(tokens).confirmTotp({ code: app.code() }))).toBe("no_session");
});

test("what is on isn't replaced by who has the password and a session alone", async () => {
  const { first, app } = await enrol();
  expect(await failure(begin(first))).toBe("second_factor_on");
  expect(await failure(as(first).confirmTotp({ code: app.code() }))).toBe("second_factor_on");
});

test("the last secret that was made is the one that counts, and a quarter of an hour long", async () => {
  const tokens = await register();
  const [before, last] = [appOf(await begin(tokens)), appOf(await begin(tokens))];
  expect(await failure(as(tokens).confirmTotp({ code: before.code() }))).toBe("wrong_code");
  await database.query({
    text: "UPDATE second_factors SET pending_until = now() - interval '1 s' WHERE user_id = $1",
    values: [tokens.userId],
  });
  expect(await failure(as(tokens).confirmTotp({ code: last.code() }))).toBe("setup_over");
});

test("of many confirmations at once, over processes, one turns it on; of many secrets made at once each has an answer", async () => {
  const tokens = await register();
  const clients = Array.from({ length: 4 }, (_, i) => (i % 2 === 0 ? as(tokens) : other.as(tokens)));
  const setups = await Promise.all(clients.map((client) => client.beginTotp({ password: PASSWORD })));
  expect(new Set(setups.map(({ secret }) => secret)).size).toBe(4);
  const app = appOf(await begin(tokens));
  const outcomes = await Promise.all(clients.map((client) => failure(client.confirmTotp({ code: app.code() }))));
  expect(outcomes.filter((outcome) => outcome === "answered")).toHaveLength(1);
  expect(await changesOf(tokens.userId)).toEqual(["turned_on on"]);
});

test("a secret isn't guessed by who has found the session: tries are counted", async () => {
  const tokens = await register();
  const app = appOf(await begin(tokens));
  const code = app.wrongCode();
  const outcomes = await Promise.all(Array.from({ length: 20 }, () => failure(as(tokens).confirmTotp({ code }))));
  expect(outcomes.filter((outcome) => outcome === "wrong_code")).toHaveLength(5);
  expect(await failure(as(tokens).confirmTotp({ code: app.code() }))).toBe("too_many_tries");
});

test("neither the secret nor a recovery code is readable in any row", async () => {
  const { contact, userId, app, recoveryCodes } = await enrol();
  const waiting = await register();
  const setup = await begin(waiting);
  challengeIn(await guest.signIn({ contact, password: PASSWORD }));
  const tables = await database.query<{ name: string }>({
    text: "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
  });
  let all = "";
  for (const { name } of tables.rows) {
    const { rows } = await database.query<{ all: string | null }>({ text: `SELECT json_agg(t)::text AS all FROM ${name} AS t` });
    all += (rows[0]?.all ?? "").toLowerCase();
  }
  expect(all).toContain(userId);
  for (const bytes of [app.totp.secret.bytes, Secret.fromBase32(setup.secret).bytes])
    for (const form of ["hex", "base64", "base64url", "latin1"] as const)
      expect(all).not.toContain(Buffer.from(bytes).toString(form).toLowerCase());
  for (const secret of [app.totp.secret.base32, setup.secret]) expect(all).not.toContain(secret.toLowerCase());
  for (const code of recoveryCodes) {
    expect(all).not.toContain(code.toLowerCase());
    expect(all).not.toContain(code.toLowerCase().replaceAll("-", ""));
  }
});

test("a secret that was put into another's row isn't that one's", async () => {
  const [anna, boris] = [await enrol(), await enrol()];
  await database.query({
    text: "UPDATE second_factors SET totp_secret = (SELECT totp_secret FROM second_factors WHERE user_id = $1) WHERE user_id = $2",
    values: [anna.userId, boris.userId],
  });
  const challengeId = challengeIn(await guest.signIn({ contact: boris.contact, password: PASSWORD }));
  expect(await failure(guest.signInWithSecondFactor({ challengeId, code: anna.app.code() }))).not.toBe("answered");
});
