import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { testServices, testServicesWith } from "#platform/process/services.testing.ts";
import {
  answerTo,
  authClients,
  claimsOf,
  codeOf,
  failure,
  lettersTo,
  PASSWORD,
  someEmail,
  somePhone,
  tokensIn,
  wrongCodeOf,
} from "../auth.testing.ts";
import { authService } from "../service.ts";

const services = await testServices(authService);
const database = services.database("auth");
const { guest } = authClients(services);

test("who has the code that was sent has the account, and is signed in", async () => {
  for (const contact of [someEmail(), somePhone()]) {
    const challenge = await guest.signUp({ contact, password: PASSWORD, locale: "ru" });
    expect(await lettersTo(services, contact)).toMatchObject([
      { template: "confirm-sign-up", locale: "ru", contact, challengeId: challenge.challengeId, params: { minutes: "15" } },
    ]);
    expect(await failure(guest.signIn({ contact, password: PASSWORD }))).toBe("invalid_credentials");
    const { userId } = await guest.confirmSignUp(answerTo(challenge));
    expect(tokensIn(await guest.signIn({ contact, password: PASSWORD })).userId).toBe(userId);
  }
});

test("no code lies in a row, nor a password", async () => {
  const contact = someEmail();
  const challenge = await guest.signUp({ contact, password: PASSWORD });
  const { rows } = await database.query<{ all: string }>({
    text: `SELECT (SELECT json_agg(c) FROM challenges c)::text || (SELECT json_agg(encode(payload, 'escape')) FROM tasks)::text AS all`,
  });
  expect(rows[0]?.all).toContain(challenge.challengeId);
  expect(rows[0]?.all).not.toContain(codeOf(challenge));
  expect(rows[0]?.all).not.toContain(PASSWORD);
  await guest.confirmSignUp(answerTo(challenge));
  const left = await database.query({ text: "SELECT password_hash FROM challenges WHERE id = $1", values: [challenge.challengeId] });
  expect(left.rows).toEqual([{ password_hash: null }]);
});

test("a code is good once, and at once for one of many", async () => {
  const challenge = await guest.signUp({ contact: someEmail(), password: PASSWORD });
  const outcomes = await Promise.all(Array.from({ length: 4 }, () => failure(guest.confirmSignUp(answerTo(challenge)))));
  expect(outcomes.sort()).toEqual(["answered", "invalid_code", "invalid_code", "invalid_code"]);
});

test("a code is guessed five times at the most, however many guess at once; then the right one is of no use either", async () => {
  const challenge = await guest.signUp({ contact: someEmail(), password: PASSWORD });
  const guesses = Array.from({ length: 40 }, () => failure(guest.confirmSignUp({ ...answerTo(challenge), code: wrongCodeOf(challenge) })));
  const outcomes = await Promise.all(guesses);
  expect(outcomes.filter((outcome) => outcome === "invalid_code")).toHaveLength(5);
  expect(outcomes.filter((outcome) => outcome === "too_many_tries")).toHaveLength(35);
  expect(await failure(guest.confirmSignUp(answerTo(challenge)))).toBe("too_many_tries");
});

test("a code of something else, one that is over, and one of a challenge that never was are wrong codes", async () => {
  const contact = someEmail();
  const first = await guest.signUp({ contact, password: PASSWORD });
  await guest.confirmSignUp(answerTo(first));
  const reset = await guest.requestCode({ contact, purpose: 1 });
  expect(await failure(guest.confirmSignUp(answerTo(reset)))).toBe("invalid_code");
  const late = await guest.signUp({ contact: someEmail(), password: PASSWORD });
  await database.query({ text: "UPDATE challenges SET expires_at = now() - interval '1 s' WHERE id = $1", values: [late.challengeId] });
  expect(await failure(guest.confirmSignUp(answerTo(late)))).toBe("invalid_code");
  const challengeId = randomUUID();
  expect(await failure(guest.confirmSignUp(answerTo({ challengeId })))).toBe("invalid_code");
});

test("where there is an account already its owner is told, and whoever asks learns nothing", async () => {
  const contact = someEmail();
  await guest.confirmSignUp(answerTo(await guest.signUp({ contact, password: PASSWORD })));
  const again = await guest.signUp({ contact, password: "another good old phrase" });
  expect(Object.keys(again).sort()).toEqual(["$typeName", "challengeId", "expiresAt"]);
  expect((await lettersTo(services, contact)).map(({ template }) => template)).toEqual(["confirm-sign-up", "sign-up-again"]);
  // Not even who guesses the code that was never sent.
  expect(await failure(guest.confirmSignUp(answerTo(again)))).toBe("contact_taken");
  expect(await failure(guest.signIn({ contact, password: "another good old phrase" }))).toBe("invalid_credentials");
});

test("of two who sign up with one address at once, one has it", async () => {
  const contact = someEmail();
  const challenges = [await guest.signUp({ contact, password: PASSWORD }), await guest.signUp({ contact, password: PASSWORD })];
  const outcomes = await Promise.all(challenges.map((challenge) => failure(guest.confirmSignUp(answerTo(challenge)))));
  expect(outcomes.sort()).toEqual(["answered", "contact_taken"]);
});

test.each([
  ["that many have", "password1234"],
  ["of keys beside each other", "qwertyuiop[]"],
  ["that tells the address", "anna.petrova1990"],
  ["that is one letter", "aaaaaaaaaaaaaaaaaaaaaaaaaaa"],
])("a password %s is refused", async (_, password) => {
  const contact = { case: "email", value: `anna.petrova1990@${randomUUID()}.example` } as const;
  expect(await failure(guest.signUp({ contact, password }))).toBe("weak_password");
});

test("two codes a minute go to an address, and no more", async () => {
  const contact = someEmail();
  const outcomes = await Promise.all(Array.from({ length: 5 }, () => failure(guest.signUp({ contact, password: PASSWORD }))));
  expect(outcomes.sort()).toEqual(["answered", "answered", "too_many_codes", "too_many_codes", "too_many_codes"]);
});

test("who signs up with an address of AUTH_ADMINS, however it is written, is an admin; nobody else is", async () => {
  const admin = someEmail();
  const own = await testServicesWith({ environment: { AUTH_ADMINS: ` ${admin.value.toUpperCase()}, other@example.com` } }, authService);
  const { register } = authClients(own);
  expect(claimsOf(await register(admin)).roles).toEqual(["admin"]);
  expect(claimsOf(await register()).roles).toEqual([]);
});
