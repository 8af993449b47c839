import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { authClients, claimsOf, codeOf, failure, PASSWORD, someEmail, somePhone, tokensIn, wrongCodeOf } from "../auth.testing.ts";
import { authService } from "../service.ts";

const services = await testServices(authService);
const database = services.database("auth");
const { guest, as, register } = authClients(services);
const other = authClients(await services.copy());
const refresh = ({ refreshToken }: { readonly refreshToken: string }, { guest: client } = { guest }) => client.refresh({ refreshToken });
/** As if the refresh token that is good had been made so long ago. */
const ageMs = (sessionId: string, ms: number) =>
  database.query({ text: "UPDATE sessions SET last_used_at = last_used_at - $2 * interval '1 ms' WHERE id = $1", values: [sessionId, ms] });

test("who signs in by e-mail, however it is written, or by phone, gets the tokens of a session", async () => {
  for (const contact of [someEmail(), somePhone()]) {
    const { userId } = await register(contact);
    const written = { ...contact, value: contact.value.toUpperCase() };
    const tokens = tokensIn(await guest.signIn({ contact: written, password: PASSWORD }));
    expect(tokens).toMatchObject({ userId, tokenType: "Bearer", expiresIn: 600 });
    const claims = claimsOf(tokens);
    expect(claims).toMatchObject({ sub: userId, sid: tokens.sessionId, ver: 1, roles: [], mfa: false, aud: "polis" });
    expect((claims.exp as number) - (claims.iat as number)).toBe(600);
  }
});

test("a wrong password and an account that isn't there are told in the same words", async () => {
  const contact = someEmail();
  await register(contact);
  const answers = await Promise.all(
    [
      { contact, password: "not the password" },
      { contact: someEmail(), password: PASSWORD },
    ].map((request) => guest.signIn(request).catch(({ status, code: name, message }) => ({ status, name, message }))),
  );
  expect(answers[0]).toMatchObject({ status: "UNAUTHENTICATED", name: "invalid_credentials" });
  expect(answers[1]).toEqual(answers[0]);
});

test("a code that was sent signs in, once; the answer doesn't tell whether there is an account", async () => {
  const contact = someEmail();
  const { userId } = await register(contact);
  const challenge = await guest.requestCode({ contact });
  const answer = { challengeId: challenge.challengeId, code: codeOf(challenge) };
  expect(await failure(guest.signInWithCode({ ...answer, code: wrongCodeOf(challenge) }))).toBe("invalid_code");
  expect(tokensIn(await guest.signInWithCode(answer)).userId).toBe(userId);
  expect(await failure(guest.signInWithCode(answer))).toBe("invalid_code");
  const nobodys = await guest.requestCode({ contact: someEmail() });
  expect(Object.keys(nobodys).sort()).toEqual(Object.keys(challenge).sort());
  expect(await failure(guest.signInWithCode({ challengeId: nobodys.challengeId, code: codeOf(nobodys) }))).toBe("invalid_code");
});

test("a refresh token is good once, and gives the next", async () => {
  const first = await register();
  const second = await refresh(first);
  expect(second).toMatchObject({ sessionId: first.sessionId, userId: first.userId });
  expect(second.refreshToken).not.toBe(first.refreshToken);
  const third = await refresh(second);
  expect([first.refreshToken, second.refreshToken]).not.toContain(third.refreshToken);
});

test("whoever comes again at once, for the answer was lost, gets the same refresh token, over processes as well", async () => {
  const first = await register();
  const answers = await Promise.all(Array.from({ length: 8 }, (_, i) => refresh(first, i % 2 === 0 ? { guest } : other)));
  expect(new Set(answers.map(({ refreshToken }) => refreshToken)).size).toBe(1);
  expect(await refresh(answers[0]!)).toMatchObject({ sessionId: first.sessionId });
});

test("a refresh token that comes again later has been stolen: its session ends, for both, and tells of it", async () => {
  const stolen = await register();
  const next = await refresh(stolen);
  await ageMs(next.sessionId, 11_000);
  expect(await failure(refresh(stolen))).toBe("refresh_token_reused");
  expect(await failure(refresh(next))).toBe("invalid_refresh_token");
  expect((await database.query({ text: "SELECT FROM revocations WHERE session_id = $1", values: [stolen.sessionId] })).rowCount).toBe(1);
});

test("one from before the last ends its session however soon it comes", async () => {
  const first = await register();
  const third = await refresh(await refresh(first));
  expect(await failure(refresh(first))).toBe("refresh_token_reused");
  expect(await failure(refresh(third))).toBe("invalid_refresh_token");
});

test("a refresh token in which any character is another isn't good, nor is another's text", async () => {
  const { refreshToken } = await register();
  const forged = Array.from(
    refreshToken,
    (letter, at) => `${refreshToken.slice(0, at)}${letter === "A" ? "B" : "A"}${refreshToken.slice(at + 1)}`,
  );
  const odd = ["x", `${refreshToken}=`, `${refreshToken}A`, refreshToken.slice(1), refreshToken.toLowerCase(), "☃".repeat(60)];
  for (const token of [...forged, ...odd]) expect(await failure(refresh({ refreshToken: token }))).toBe("invalid_refresh_token");
  expect(await failure(refresh({ refreshToken }))).toBe("answered");
});

test("a session that isn't refreshed for thirty days is over, and none lasts longer than half a year", async () => {
  const tokens = await register();
  await database.query({
    text: "UPDATE sessions SET created_at = now() - interval '179 days', expires_at = now() + interval '1 s' WHERE id = $1",
    values: [tokens.sessionId],
  });
  const next = await refresh(tokens);
  expect(Number(next.refreshExpiresAt?.seconds) - Date.now() / 1000).toBeLessThan(86_401);
  await database.query({ text: "UPDATE sessions SET expires_at = now() - interval '1 s' WHERE id = $1", values: [tokens.sessionId] });
  expect(await failure(refresh(next))).toBe("invalid_refresh_token");
});

test("who signs out ends this session alone, and everywhere all of them; a repeat changes nothing", async () => {
  const contact = someEmail();
  const first = await register(contact);
  const second = tokensIn(await guest.signIn({ contact, password: PASSWORD }));
  const third = tokensIn(await guest.signIn({ contact, password: PASSWORD }));
  for (let times = 0; times < 2; times += 1) await as(second).signOut({});
  expect([await failure(refresh(first)), await failure(refresh(second))]).toEqual(["answered", "invalid_refresh_token"]);
  await as(third).signOut({ everywhere: true });
  expect(await failure(refresh(third))).toBe("invalid_refresh_token");
  expect((await as(first).listSessions({})).sessions).toEqual([]);
  const { rows } = await database.query({ text: "SELECT version_min FROM revocations WHERE user_id = $1", values: [first.userId] });
  expect(rows).toEqual([{ version_min: 2 }]);
});

test("who comes without a session has none to end", async () => {
  const client = services.client(AuthService, userCaller(randomUUID()));
  expect(await failure(client.signOut({}))).toBe("no_session");
  expect(await failure(services.client(AuthService, userCaller(randomUUID(), { sessionId: randomUUID() })).signOut({}))).toBe("no_session");
});

test("a user sees the sessions that are good, and which is this one, and ends one; another's isn't there", async () => {
  const contact = someEmail();
  const first = await register(contact);
  const second = tokensIn(await guest.signIn({ contact, password: PASSWORD }));
  const stranger = await register();
  const ids = async () => (await as(second).listSessions({})).sessions.map(({ id, current }) => [id, current]);
  expect(await ids()).toEqual([
    [second.sessionId, true],
    [first.sessionId, false],
  ]);
  expect(await failure(as(stranger).endSession({ sessionId: first.sessionId }))).toBe("not_found");
  expect(await failure(as(stranger).endSession({ sessionId: randomUUID() }))).toBe("not_found");
  for (let times = 0; times < 2; times += 1) await as(second).endSession({ sessionId: first.sessionId });
  expect(await ids()).toEqual([[second.sessionId, true]]);
  expect(await failure(refresh(first))).toBe("invalid_refresh_token");
});

test("a wrong password leaves as much behind where there is no account: its commit takes as long", async () => {
  const contact = someEmail();
  const { userId } = await register(contact);
  const outbox = async () =>
    (await database.query<{ n: number }>({ text: "SELECT coalesce(sum(count), 0)::int AS n FROM outbox" })).rows[0]?.n ?? 0;
  const told: number[] = [];
  for (const tried of [contact, someEmail()]) {
    const before = await outbox();
    expect(await failure(guest.signIn({ contact: tried, password: "not the password" }))).toBe("invalid_credentials");
    told.push((await outbox()) - before);
  }
  expect(told).toEqual([1, 1]);
  expect(userId).toBeDefined();
});
