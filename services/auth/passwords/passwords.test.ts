import { hash } from "@node-rs/argon2";
import { expect, test, vi } from "vitest";
import { RequestCodeRequest_Purpose as Purpose, type Tokens } from "#contracts/polis/auth/v1/auth_pb.ts";
import { systemClock } from "#platform/clock.ts";
import { testDatabase, testLog, waitingForLocks } from "#platform/postgres/database.testing.ts";
import { openResources } from "#platform/process/resources.ts";
import { testSecrets, testServices } from "#platform/process/services.testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { authClients, claimsOf, codeOf, failure, lettersTo, PASSWORD, someEmail, tokensIn, wrongCodeOf } from "../auth.testing.ts";
import { authService } from "../service.ts";
import { passwords } from "./passwords.ts";

const services = await testServices(authService);
const database = services.database("auth");
const { guest, as, register, admin } = authClients(services);
const { guest: other } = authClients(await services.copy());
const NEXT = "eight yellow herons sing";
const signIn = (contact: ReturnType<typeof someEmail>, password: string) => failure(guest.signIn({ contact, password }));
const templatesTo = async (contact: ReturnType<typeof someEmail>) => (await lettersTo(services, contact)).map(({ template }) => template);
const reset = async (contact: ReturnType<typeof someEmail>) => {
  const challenge = await guest.requestCode({ contact, purpose: Purpose.RESET_PASSWORD });
  return { challengeId: challenge.challengeId, code: codeOf(challenge), newPassword: NEXT };
};

test("who knows the password sets another; this session goes on with new tokens, all others end, and the owner is told", async () => {
  const contact = someEmail();
  const first = await register(contact);
  const second = tokensIn(await guest.signIn({ contact, password: PASSWORD }));
  const tokens = await as(second).changePassword({ currentPassword: PASSWORD, newPassword: NEXT });
  expect(tokens).toMatchObject({ sessionId: second.sessionId });
  expect([claimsOf(second).ver, claimsOf(tokens).ver]).toEqual([1, 2]);
  const { rows } = await database.query({ text: "SELECT version_min FROM revocations WHERE user_id = $1", values: [first.userId] });
  expect(rows).toEqual([{ version_min: 2 }]);
  expect(await failure(guest.refresh({ refreshToken: first.refreshToken }))).toBe("invalid_refresh_token");
  expect(await failure(guest.refresh({ refreshToken: tokens.refreshToken }))).toBe("answered");
  expect([await signIn(contact, PASSWORD), await signIn(contact, NEXT)]).toEqual(["invalid_credentials", "answered"]);
  expect((await templatesTo(contact)).at(-1)).toBe("password-changed");
});

test("who doesn't know it changes nothing, nor does a weak one take its place", async () => {
  const contact = someEmail();
  const tokens = await register(contact);
  expect(await failure(as(tokens).changePassword({ currentPassword: "not the password", newPassword: NEXT }))).toBe("wrong_password");
  expect(await failure(as(tokens).changePassword({ currentPassword: PASSWORD, newPassword: "password1234" }))).toBe("weak_password");
  expect(await signIn(contact, PASSWORD)).toBe("answered");
  expect(await templatesTo(contact)).toEqual(["confirm-sign-up"]);
});

test("of two who change it at once, one does", async () => {
  const contact = someEmail();
  const tokens = await register(contact);
  const changes = [NEXT, "nine silver foxes hum"].map((newPassword) =>
    failure(as(tokens).changePassword({ currentPassword: PASSWORD, newPassword })),
  );
  expect((await Promise.all(changes)).sort()).toEqual(["answered", "wrong_password"]);
});

test("who has the code sets another password, once: all sessions end, and the owner is told", async () => {
  const contact = someEmail();
  const tokens = await register(contact);
  const request = await reset(contact);
  expect(await failure(guest.resetPassword({ ...request, code: wrongCodeOf(request) }))).toBe("invalid_code");
  expect(await failure(guest.resetPassword({ ...request, newPassword: "password1234" }))).toBe("weak_password");
  expect(await failure(guest.resetPassword(request))).toBe("answered");
  expect(await failure(guest.resetPassword(request))).toBe("invalid_code");
  expect(await failure(guest.refresh({ refreshToken: tokens.refreshToken }))).toBe("invalid_refresh_token");
  expect([await signIn(contact, PASSWORD), await signIn(contact, NEXT)]).toEqual(["invalid_credentials", "answered"]);
  expect((await templatesTo(contact)).at(-1)).toBe("password-changed");
});

test("a blocked account stays blocked by another password; one that isn't there gets none", async () => {
  const contact = someEmail();
  const { userId } = await register(contact);
  await admin.blockUser({ userId, reason: "a test" });
  expect(await failure(guest.resetPassword(await reset(contact)))).toBe("answered");
  expect(await signIn(contact, NEXT)).toBe("account_blocked");
  const nobodys = someEmail();
  expect(await failure(guest.resetPassword(await reset(nobodys)))).toBe("invalid_code");
  expect(await signIn(nobodys, NEXT)).toBe("invalid_credentials");
});

test("who has set another password isn't locked out by the tries of the one that was forgotten", async () => {
  const contact = someEmail();
  await register(contact);
  for (let times = 0; times < 5; times += 1) expect(await signIn(contact, "what was it")).toBe("invalid_credentials");
  expect(await signIn(contact, PASSWORD)).toBe("too_many_tries");
  const answer = await reset(contact);
  const wrong = { ...answer, code: wrongCodeOf(answer) };
  expect(await failure(guest.resetPassword(wrong))).toBe("invalid_code");
  expect(await signIn(contact, PASSWORD)).toBe("too_many_tries");
  expect(await failure(guest.resetPassword(answer))).toBe("answered");
  expect(await signIn(contact, NEXT)).toBe("answered");
});

test("a code to sign in with doesn't set a password", async () => {
  const contact = someEmail();
  await register(contact);
  const challenge = await guest.requestCode({ contact, purpose: Purpose.SIGN_IN });
  expect(await failure(guest.resetPassword({ challengeId: challenge.challengeId, code: codeOf(challenge), newPassword: NEXT }))).toBe(
    "invalid_code",
  );
});

test("a password that was hashed at other costs is hashed anew when its owner signs in", async () => {
  const contact = someEmail();
  const { userId } = await register(contact);
  const cheap = await hash(PASSWORD, { memoryCost: 8_192, timeCost: 1, parallelism: 1 });
  await database.query({ text: "UPDATE users SET password_hash = $2 WHERE id = $1", values: [userId, cheap] });
  expect(await signIn(contact, PASSWORD)).toBe("answered");
  const { rows } = await database.query<{ hash: string }>({
    text: "SELECT password_hash AS hash FROM users WHERE id = $1",
    values: [userId],
  });
  expect(rows[0]?.hash).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
  expect(await signIn(contact, PASSWORD)).toBe("answered");
});

test("who signs in several times at once while it is hashed anew is let in each time, over processes", async () => {
  const contact = someEmail();
  const { userId } = await register(contact);
  const cheap = await hash(PASSWORD, { memoryCost: 8_192, timeCost: 1, parallelism: 1 });
  await database.query({ text: "UPDATE users SET password_hash = $2 WHERE id = $1", values: [userId, cheap] });
  const guests = [guest, other, guest, other];
  const outcomes = await Promise.all(guests.map((each) => failure(each.signIn({ contact, password: PASSWORD }))));
  expect(outcomes).toEqual(guests.map(() => "answered"));
});

async function openPasswords(atOnce: number) {
  const { use, close } = await openResources(
    { name: "auth", resources: [passwords] },
    {
      settings: { "auth.passwords": { atOnce } },
      database: await testDatabase({ migrations: [] }),
      secrets: testSecrets,
      clock: systemClock,
      log: testLog,
      metrics: new Metrics(),
    },
  );
  return { own: use(passwords), close };
}

test("few passwords are hashed at once, so many wait, and the next is told to come again; then all goes on", async () => {
  const { own, close } = await openPasswords(2);
  const asked = await Promise.allSettled(Array.from({ length: 140 }, () => own.hash(PASSWORD)));
  const refused = asked.filter(({ status }) => status === "rejected") as PromiseRejectedResult[];
  expect(refused).toHaveLength(140 - 2 - 128);
  expect(refused[0]?.reason).toMatchObject({ status: "RESOURCE_EXHAUSTED", code: "overloaded", retryAfterMs: 2_000 });
  const made = await own.hash(PASSWORD);
  expect([await own.verify(PASSWORD, made), await own.verify("not the password", made)]).toEqual([true, false]);
  await close();
});

test("without a hash the same work is done, and the answer is no; what is no hash is a fault, and frees its turn", async () => {
  const { own, close } = await openPasswords(1);
  const made = await own.hash(PASSWORD);
  const msOf = async (known: string | undefined): Promise<number> => {
    const startedMs = performance.now();
    for (let n = 0; n < 10; n += 1) expect(await own.verify("not the password", known)).toBe(false);
    return performance.now() - startedMs;
  };
  await msOf(made);
  const [known, unknown] = [await msOf(made), await msOf(undefined)];
  expect(unknown / known).toBeGreaterThan(0.3);
  expect(unknown / known).toBeLessThan(3);
  await expect(own.verify(PASSWORD, "nonsense")).rejects.toThrow();
  expect(await own.verify(PASSWORD, made)).toBe(true);
  await close();
});

test("a password that is changed while it is looked at doesn't sign in any more", async () => {
  const contact = someEmail();
  const { userId } = await register(contact);
  let signingIn: Promise<string> | undefined;
  await database.transaction(async (tx) => {
    await tx.query({ text: "SELECT FROM users WHERE id = $1 FOR UPDATE", values: [userId] });
    signingIn = signIn(contact, PASSWORD);
    await vi.waitFor(async () => expect(await waitingForLocks(database)).toBeGreaterThan(0), 5_000);
    await tx.query({
      text: "UPDATE users SET password_hash = 'another', session_epoch = session_epoch + 1 WHERE id = $1",
      values: [userId],
    });
  });
  expect(await signingIn).toBe("invalid_credentials");
});

test("a session that has ended, or whose user is blocked, sets no password, whatever its token still says", async () => {
  for (const end of [
    (tokens: Tokens) => as(tokens).signOut({}),
    (tokens: Tokens) => admin.blockUser({ userId: tokens.userId, reason: "a test" }),
  ]) {
    const contact = someEmail();
    const tokens = await register(contact);
    await end(tokens);
    expect(await failure(as(tokens).changePassword({ currentPassword: PASSWORD, newPassword: NEXT }))).toBe("no_session");
    expect(await failure(as(tokens).createApiKey({ name: "x", scopes: ["orders:read"] }))).toBe("no_session");
    expect(await signIn(contact, NEXT)).toBe("invalid_credentials");
  }
});
