import { expect, test } from "vitest";
import { RequestCodeRequest_Purpose as Purpose } from "#contracts/polis/auth/v1/auth_pb.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { authClients, codeOf, failure, PASSWORD, someEmail, wrongCodeOf } from "./auth.testing.ts";
import { authService } from "./service.ts";

const services = await testServices(authService);
const { guest, register } = authClients(services);
const other = authClients(await services.copy());
const count = (list: readonly string[], one: string): number => list.filter((each) => each === one).length;

test("an account is tried five times a minute, however many try at once, over processes; whether it is there or not", async () => {
  const there = someEmail();
  await register(there);
  for (const contact of [there, someEmail()]) {
    const tries = Array.from({ length: 100 }, (_, i) =>
      failure((i % 2 === 0 ? guest : other.guest).signIn({ contact, password: "not the password" })),
    );
    const outcomes = await Promise.all(tries);
    expect([count(outcomes, "invalid_credentials"), count(outcomes, "too_many_tries")]).toEqual([5, 95]);
  }
});

test("a locked account says when it may be tried again, and the right password doesn't open it before", async () => {
  const contact = someEmail();
  await register(contact);
  for (let n = 0; n < 5; n += 1) await failure(guest.signIn({ contact, password: "not the password" }));
  const refused = await guest.signIn({ contact, password: PASSWORD }).catch((error: unknown) => error);
  expect(refused).toMatchObject({ status: "RESOURCE_EXHAUSTED", code: "too_many_tries" });
  const { retryAfterMs } = refused as { retryAfterMs: number };
  expect(retryAfterMs).toBeGreaterThan(30_000);
  expect(retryAfterMs).toBeLessThan(70_000);
});

test("a code that goes to its address unlocks an account; another's code doesn't", async () => {
  const [locked, another] = [someEmail(), someEmail()];
  await register(locked);
  await register(another);
  for (let n = 0; n < 6; n += 1) await failure(guest.signIn({ contact: locked, password: "not the password" }));
  const unlock = async (contact: typeof locked) => {
    const challenge = await guest.requestCode({ contact, purpose: Purpose.UNLOCK });
    await guest.unlock({ challengeId: challenge.challengeId, code: codeOf(challenge) });
  };
  await unlock(another);
  expect(await failure(guest.signIn({ contact: locked, password: PASSWORD }))).toBe("too_many_tries");
  await unlock(locked);
  expect(await failure(guest.signIn({ contact: locked, password: PASSWORD }))).toBe("answered");
});

test("the right password forgets the tries before it", async () => {
  const contact = someEmail();
  await register(contact);
  for (let round = 0; round < 3; round += 1) {
    for (let n = 0; n < 4; n += 1)
      expect(await failure(guest.signIn({ contact, password: "not the password" }))).toBe("invalid_credentials");
    expect(await failure(guest.signIn({ contact, password: PASSWORD }))).toBe("answered");
  }
});

test("who is signed in stays so while the account is locked", async () => {
  const contact = someEmail();
  const tokens = await register(contact);
  for (let n = 0; n < 6; n += 1) await failure(guest.signIn({ contact, password: "not the password" }));
  expect(await failure(guest.refresh({ refreshToken: tokens.refreshToken }))).toBe("answered");
});

test("codes that went to one address are guessed thirty times a day, however many there are; who has one is its owner", async () => {
  const contact = someEmail();
  await register(contact);
  const first = await guest.requestCode({ contact });
  // As if the hours between had passed in which no more codes are sent.
  const { rows: challenges } = await services.database("auth").query<{ id: string }>({
    text: `INSERT INTO challenges
           SELECT (jsonb_populate_record(c, jsonb_build_object('id', gen_random_uuid()))).* FROM challenges c, generate_series(1, 7)
           WHERE c.id = $1 RETURNING id`,
    values: [first.challengeId],
  });
  const guesses: string[] = [];
  for (const { id: challengeId } of challenges)
    for (let n = 0; n < 5; n += 1) guesses.push(await failure(guest.signInWithCode({ challengeId, code: wrongCodeOf({ challengeId }) })));
  expect([count(guesses, "invalid_code"), count(guesses, "too_many_tries")]).toEqual([30, 5]);
});
