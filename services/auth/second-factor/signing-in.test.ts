import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { RequestCodeRequest_Purpose as Purpose } from "#contracts/polis/auth/v1/auth_pb.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { claimsOf, codeOf, failure, lettersTo, PASSWORD } from "../auth.testing.ts";
import { authService } from "../service.ts";
import { challengeIn, secondFactorClients } from "./second-factor.testing.ts";

const services = await testServices(authService);
const clients = secondFactorClients(services);
const { guest, as, admin, enrol, letCodesPass, refresh, changesOf, database } = clients;
const other = secondFactorClients(await services.copy());
type Contact = Awaited<ReturnType<typeof enrol>>["contact"];
const ask = async (contact: Contact, password = PASSWORD) => challengeIn(await guest.signIn({ contact, password }));
const enter = (challengeId: string, code: string, { guest: client } = clients) => client.signInWithSecondFactor({ challengeId, code });
const sessionsOf = async (userId: string): Promise<number> =>
  (await database.query({ text: "SELECT FROM sessions WHERE user_id = $1", values: [userId] })).rowCount;

test("the password alone begins no session; with a code of the app one with a second factor begins", async () => {
  const { contact, userId, app } = await enrol();
  const { outcome } = await guest.signIn({ contact, password: PASSWORD });
  expect(outcome).toMatchObject({ case: "secondFactor", value: { challengeId: expect.any(String), expiresAt: expect.anything() } });
  expect(await sessionsOf(userId)).toBe(1);
  const tokens = await enter(await ask(contact), app.code());
  expect(claimsOf(tokens)).toMatchObject({ sub: userId, sid: tokens.sessionId, mfa: true });
  expect((await as(tokens).listSessions({})).sessions[0]).toMatchObject({ id: tokens.sessionId, secondFactor: true });
  expect(claimsOf(await refresh(tokens))).toMatchObject({ mfa: true });
});

test("a code by mail asks for it as well", async () => {
  const { contact, userId, app } = await enrol();
  const mailed = await guest.requestCode({ contact });
  const challengeId = challengeIn(await guest.signInWithCode({ challengeId: mailed.challengeId, code: codeOf(mailed) }));
  expect(await sessionsOf(userId)).toBe(1);
  expect(claimsOf(await enter(challengeId, app.code()))).toMatchObject({ mfa: true });
});

test("a password that was set by mail doesn't get around it, and what was asked for by the one before is over", async () => {
  const { contact, userId, app, recoveryCodes } = await enrol();
  const before = await ask(contact);
  const { challengeId } = await guest.requestCode({ contact, purpose: Purpose.RESET_PASSWORD });
  const newPassword = "nine quiet walruses sing";
  await guest.resetPassword({ challengeId, code: codeOf({ challengeId }), newPassword });
  expect(await failure(enter(before, app.code()))).toBe("invalid_code");
  const after = await ask(contact, newPassword);
  expect(await sessionsOf(userId)).toBe(1);
  expect(claimsOf(await enter(after, app.code()))).toMatchObject({ mfa: true });
  expect(await failure(enter(await ask(contact, newPassword), recoveryCodes[0] ?? ""))).toBe("answered");
});

test("the codes of mail answer no challenge of a second factor, nor the other way round", async () => {
  const { contact, app } = await enrol();
  const challengeId = await ask(contact);
  expect(await failure(enter(challengeId, codeOf({ challengeId })))).toBe("invalid_code");
  expect(await failure(guest.signInWithCode({ challengeId, code: codeOf({ challengeId }) }))).toBe("invalid_code");
  const mailed = await guest.requestCode({ contact });
  expect(await failure(enter(mailed.challengeId, app.code()))).toBe("invalid_code");
  expect(await failure(enter(randomUUID(), app.code()))).toBe("invalid_code");
});

test("who has typed a wrong code may type the right one", async () => {
  const { contact, app } = await enrol();
  const challengeId = await ask(contact);
  expect(await failure(enter(challengeId, app.wrongCode()))).toBe("invalid_code");
  expect(await failure(enter(challengeId, app.code()))).toBe("answered");
});

test("who doesn't have the password can't lock the second factor", async () => {
  const { contact, app } = await enrol();
  const mailed = await guest.requestCode({ contact });
  for (let times = 0; times < 6; times += 1) await failure(enter(mailed.challengeId, app.wrongCode()));
  expect(await failure(enter(await ask(contact), app.code()))).toBe("answered");
});

test("a clock that is a step ahead will do", async () => {
  const { contact, app } = await enrol();
  expect(await failure(enter(await ask(contact), app.code(1)))).toBe("answered");
});

test("a code is good once, whatever challenge it answers", async () => {
  const { contact, app } = await enrol();
  const code = app.code();
  expect(await failure(enter(await ask(contact), code))).toBe("answered");
  expect(await failure(enter(await ask(contact), code))).toBe("invalid_code");
  const later = app.code(1);
  expect(await failure(enter(await ask(contact), later))).toBe("answered");
  // Nor is one of before good when a later one was used.
  expect(await failure(enter(await ask(contact), code))).toBe("invalid_code");
});

test("of many who come at once with one code, over two processes, one gets in", async () => {
  const { contact, userId, app } = await enrol();
  const asked = await Promise.all(Array.from({ length: 4 }, () => ask(contact)));
  const code = app.code();
  const outcomes = await Promise.all(asked.map((challengeId, i) => failure(enter(challengeId, code, i % 2 === 0 ? clients : other))));
  expect(outcomes.sort()).toEqual(["answered", "invalid_code", "invalid_code", "invalid_code"]);
  expect(await sessionsOf(userId)).toBe(2);
});

test("a challenge is answered once, and within its time", async () => {
  const { contact, userId, app } = await enrol();
  const challengeId = await ask(contact);
  expect(await failure(enter(challengeId, app.code()))).toBe("answered");
  await letCodesPass(userId);
  expect(await failure(enter(challengeId, app.code()))).toBe("invalid_code");
  const late = await ask(contact);
  await database.query({ text: "UPDATE challenges SET expires_at = now() - interval '1 s' WHERE id = $1", values: [late] });
  expect(await failure(enter(late, app.code()))).toBe("invalid_code");
  // A code that was of no use isn't used up.
  expect(await failure(enter(await ask(contact), app.code()))).toBe("answered");
});

test("a recovery code is good once, however it is typed, and its owner is told", async () => {
  const { contact, userId, tokens, recoveryCodes } = await enrol();
  const [code = ""] = recoveryCodes;
  expect(claimsOf(await enter(await ask(contact), code.toLowerCase().replaceAll("-", " ")))).toMatchObject({ mfa: true });
  expect(await failure(enter(await ask(contact), code))).toBe("invalid_code");
  expect(await as(tokens).getSecondFactor({})).toMatchObject({ on: true, recoveryCodesLeft: 9 });
  const [letter] = (await lettersTo(services, contact)).slice(-1);
  expect(letter).toMatchObject({ template: "recovery-code-used" });
  expect(letter?.params).toEqual({ left: "9", time: expect.any(String), device: expect.any(String) });
  expect(await changesOf(userId)).toEqual(["turned_on on", "recovery_code_used on"]);
});

test("of many who come at once with one recovery code, over two processes, one gets in", async () => {
  const { contact, recoveryCodes } = await enrol();
  const asked = await Promise.all(Array.from({ length: 4 }, () => ask(contact)));
  const [code = ""] = recoveryCodes;
  const outcomes = await Promise.all(asked.map((challengeId, i) => failure(enter(challengeId, code, i % 2 === 0 ? clients : other))));
  expect(outcomes.sort()).toEqual(["answered", "invalid_code", "invalid_code", "invalid_code"]);
});

test("another's recovery code is a wrong one", async () => {
  const [anna, boris] = [await enrol(), await enrol()];
  expect(await failure(enter(await ask(anna.contact), boris.recoveryCodes[0] ?? ""))).toBe("invalid_code");
});

test("the account is locked by guesses, however many challenges they are spread over; the right code is of no use then", async () => {
  const { contact, app } = await enrol();
  const asked = await Promise.all(Array.from({ length: 4 }, () => ask(contact)));
  const code = app.wrongCode();
  const guesses = Array.from({ length: 20 }, (_, i) => failure(enter(asked[i % 4] ?? "", code, i % 2 === 0 ? clients : other)));
  const outcomes = await Promise.all(guesses);
  expect(outcomes.filter((outcome) => outcome === "invalid_code")).toHaveLength(5);
  expect(outcomes.filter((outcome) => outcome === "too_many_tries")).toHaveLength(15);
  const right = await enter(await ask(contact), app.code()).catch((error: unknown) => error as { code?: string; retryAfterMs?: number });
  expect(right).toMatchObject({ code: "too_many_tries", status: "RESOURCE_EXHAUSTED" });
});

test("one challenge is guessed at five times, though its account's tries were forgotten meanwhile", async () => {
  const { contact, userId, app } = await enrol();
  const challengeId = await ask(contact);
  for (let times = 0; times < 4; times += 1) expect(await failure(enter(challengeId, app.wrongCode()))).toBe("invalid_code");
  expect(await failure(enter(await ask(contact), app.code()))).toBe("answered");
  await letCodesPass(userId);
  expect(await failure(enter(challengeId, app.wrongCode()))).toBe("invalid_code");
  expect(await failure(enter(challengeId, app.code()))).toBe("too_many_tries");
  expect(await failure(enter(await ask(contact), app.code()))).toBe("answered");
});

test("a code that was used doesn't win back tries", async () => {
  const { contact, app } = await enrol();
  const used = app.code();
  await enter(await ask(contact), used);
  const outcomes: string[] = [];
  for (let times = 0; times < 6; times += 1) outcomes.push(await failure(enter(await ask(contact), used)));
  expect(outcomes).toEqual([...Array.from({ length: 5 }, () => "invalid_code"), "too_many_tries"]);
});

test("who was blocked meanwhile stays out", async () => {
  const { contact, userId, app } = await enrol();
  const challengeId = await ask(contact);
  await admin.blockUser({ userId, reason: "spam" });
  expect(await failure(enter(challengeId, app.code()))).toBe("account_blocked");
  await admin.unblockUser({ userId });
  expect(await failure(enter(challengeId, app.code()))).toBe("invalid_code");
});
