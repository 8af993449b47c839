import { expect, test } from "vitest";
import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { claimsOf, failure, lettersTo, PASSWORD, someEmail, tokensIn } from "../auth.testing.ts";
import { authService } from "../service.ts";
import { appOf, challengeIn, secondFactorClients } from "./second-factor.testing.ts";

const services = await testServices(authService);
const { guest, as, admin, register, enrol, letCodesPass, refresh, changesOf, database } = secondFactorClients(services);
const other = secondFactorClients(await services.copy());
type Contact = Awaited<ReturnType<typeof enrol>>["contact"];
const templates = async (contact: Contact) => (await lettersTo(services, contact)).map(({ template }) => template);
/** An account with a second factor, and a session that began before it was on. */
async function enrolWithOldSession() {
  const contact = someEmail();
  await register(contact);
  const weak = tokensIn(await guest.signIn({ contact, password: PASSWORD }));
  const app = appOf(await as(weak).beginTotp({ password: PASSWORD }));
  const mobile = tokensIn(await guest.signIn({ contact, password: PASSWORD }));
  const { tokens, recoveryCodes } = await as(mobile).confirmTotp({ code: app.code() });
  await letCodesPass(weak.userId);
  return { contact, userId: weak.userId, weak: await refresh(weak), strong: tokens!, app, recoveryCodes };
}

test("a session that began without it becomes one with a second factor, with another refresh token", async () => {
  const { weak, app } = await enrolWithOldSession();
  expect(claimsOf(weak)).toMatchObject({ mfa: false });
  expect(await failure(as(weak).replaceRecoveryCodes({}))).toBe("forbidden");
  expect(await failure(as(weak).verifySecondFactor({ code: app.wrongCode() }))).toBe("wrong_code");
  const strong = await as(weak).verifySecondFactor({ code: app.code() });
  expect(strong).toMatchObject({ sessionId: weak.sessionId, userId: weak.userId });
  expect(claimsOf(strong)).toMatchObject({ mfa: true });
  expect(strong.refreshToken).not.toBe(weak.refreshToken);
  expect(claimsOf(await refresh(strong))).toMatchObject({ mfa: true });
  expect(await failure(as(strong).replaceRecoveryCodes({}))).toBe("answered");
});

test("who has copied the refresh token of before gets no second factor by it, however soon they come: the session ends", async () => {
  const { weak, app } = await enrolWithOldSession();
  const strong = await as(weak).verifySecondFactor({ code: app.code() });
  expect(await failure(refresh(weak))).toBe("refresh_token_reused");
  expect(await failure(refresh(strong))).toBe("invalid_refresh_token");
});

test("a code makes one session stronger, and is good once over two processes", async () => {
  const { weak, app } = await enrolWithOldSession();
  const code = app.code();
  const calls = [as(weak), other.as(weak), as(weak), other.as(weak)].map((client) => failure(client.verifySecondFactor({ code })));
  expect((await Promise.all(calls)).sort()).toEqual(["answered", "wrong_code", "wrong_code", "wrong_code"]);
});

test("a recovery code makes a session stronger as well, once, and its owner is told", async () => {
  const { contact, weak, recoveryCodes } = await enrolWithOldSession();
  const [code = ""] = recoveryCodes;
  expect(claimsOf(await as(weak).verifySecondFactor({ code }))).toMatchObject({ mfa: true });
  expect(await failure(as(weak).verifySecondFactor({ code }))).toBe("wrong_code");
  expect((await templates(contact)).at(-1)).toBe("recovery-code-used");
});

test("guesses to make a session stronger are counted with those to sign in", async () => {
  const { contact, weak, app } = await enrolWithOldSession();
  const outcomes = await Promise.all(Array.from({ length: 10 }, () => failure(as(weak).verifySecondFactor({ code: app.wrongCode() }))));
  expect(outcomes.filter((outcome) => outcome === "wrong_code")).toHaveLength(5);
  const challengeId = challengeIn(await guest.signIn({ contact, password: PASSWORD }));
  expect(await failure(guest.signInWithSecondFactor({ challengeId, code: app.code() }))).toBe("too_many_tries");
});

test("new recovery codes take the place of the old, and the owner is told", async () => {
  const { contact, userId, tokens, recoveryCodes: old } = await enrol();
  const { recoveryCodes } = await as(tokens).replaceRecoveryCodes({});
  expect((await templates(contact)).at(-1)).toBe("recovery-codes-replaced");
  expect(new Set([...old, ...recoveryCodes]).size).toBe(20);
  expect(await as(tokens).getSecondFactor({})).toMatchObject({ recoveryCodesLeft: 10 });
  expect(await failure(as(tokens).verifySecondFactor({ code: old[0] ?? "" }))).toBe("wrong_code");
  expect(await failure(as(tokens).verifySecondFactor({ code: recoveryCodes[0] ?? "" }))).toBe("answered");
  expect(await changesOf(userId)).toEqual(["turned_on on", "recovery_codes_replaced on", "recovery_code_used on"]);
});

test("it is turned off by password and code, not by one of them; other sessions end, this one goes on without it", async () => {
  const { contact, userId, weak, strong, app } = await enrolWithOldSession();
  expect(await failure(as(strong).disableSecondFactor({ password: "not the password", code: app.code() }))).toBe("wrong_password");
  expect(await failure(as(strong).disableSecondFactor({ password: "", code: app.code() }))).toBe("wrong_password");
  expect(await failure(as(strong).disableSecondFactor({ password: PASSWORD, code: app.wrongCode() }))).toBe("wrong_code");
  expect(await as(strong).getSecondFactor({})).toMatchObject({ on: true });
  const tokens = await as(strong).disableSecondFactor({ password: PASSWORD, code: app.code() });
  expect(claimsOf(tokens)).toMatchObject({ sid: strong.sessionId, mfa: false });
  expect([await failure(refresh(weak)), await failure(refresh(tokens))]).toEqual(["invalid_refresh_token", "answered"]);
  expect(await as(tokens).getSecondFactor({})).toMatchObject({ on: false, recoveryCodesLeft: 0 });
  expect(await admin.getUser({ userId })).toMatchObject({ secondFactor: false });
  expect(tokensIn(await guest.signIn({ contact, password: PASSWORD })).userId).toBe(userId);
  expect((await templates(contact)).at(-1)).toBe("second-factor-off");
  expect(await changesOf(userId)).toEqual(["turned_on on", "turned_off off"]);
  expect(await failure(as(tokens).disableSecondFactor({ password: PASSWORD, code: app.code() }))).toBe("second_factor_off");
});

test("a recovery code turns it off as well, for who has lost the phone; another phone may then be taken", async () => {
  const { contact, tokens, recoveryCodes } = await enrol();
  const after = await as(tokens).disableSecondFactor({ password: PASSWORD, code: recoveryCodes[0] ?? "" });
  const app = appOf(await as(after).beginTotp({ password: PASSWORD }));
  const { tokens: again } = await as(after).confirmTotp({ code: app.code() });
  expect(claimsOf(again!)).toMatchObject({ mfa: true });
  // Those of the phone before went with it.
  expect(await failure(as(again!).verifySecondFactor({ code: recoveryCodes[1] ?? "" }))).toBe("wrong_code");
  expect(challengeIn(await guest.signIn({ contact, password: PASSWORD }))).toBeTypeOf("string");
});

test("a code that was asked for before it was turned off is too late", async () => {
  const { contact, tokens, app, recoveryCodes } = await enrol();
  const challengeId = challengeIn(await guest.signIn({ contact, password: PASSWORD }));
  await as(tokens).disableSecondFactor({ password: PASSWORD, code: app.code() });
  expect(await failure(guest.signInWithSecondFactor({ challengeId, code: recoveryCodes[0] ?? "" }))).toBe("invalid_code");
});

test("an admin with a second factor resets somebody's: it is off, sessions end, tries are forgotten, the owner is told", async () => {
  const { contact, userId, tokens, app } = await enrol();
  for (let times = 0; times < 5; times += 1) await failure(as(tokens).verifySecondFactor({ code: app.wrongCode() }));
  for (let times = 0; times < 2; times += 1)
    expect(await admin.resetSecondFactor({ userId })).toMatchObject({ id: userId, secondFactor: false });
  expect(await failure(refresh(tokens))).toBe("invalid_refresh_token");
  expect(await changesOf(userId)).toEqual(["turned_on on", "reset off"]);
  const letters = (await lettersTo(services, contact)).filter(({ template }) => template === "second-factor-off");
  expect(letters.map(({ params }) => params)).toEqual([{ time: expect.any(String), device: "-" }]);
  const revoked = await database.query({ text: "SELECT max(version_min) AS least FROM revocations WHERE user_id = $1", values: [userId] });
  const next = tokensIn(await guest.signIn({ contact, password: PASSWORD }));
  expect(revoked.rows).toEqual([{ least: claimsOf(next).ver }]);
  const anew = appOf(await as(next).beginTotp({ password: PASSWORD }));
  expect(await failure(as(next).confirmTotp({ code: anew.code() }))).toBe("answered");
});

test("nobody else resets a second factor, an admin not the own one, and not that of nobody", async () => {
  const { userId, tokens } = await enrol();
  const of = (roles: string[], secondFactor: boolean) =>
    services.client(AuthService, userCaller(tokens.userId, { roles, secondFactor, sessionId: tokens.sessionId }));
  expect(await failure(of([], true).resetSecondFactor({ userId }))).toBe("forbidden");
  expect(await failure(of(["support"], true).resetSecondFactor({ userId }))).toBe("forbidden");
  expect(await failure(of(["admin"], false).resetSecondFactor({ userId }))).toBe("forbidden");
  expect(await failure(of(["admin"], true).resetSecondFactor({ userId }))).toBe("own_account");
  expect(await failure(admin.resetSecondFactor({ userId: "01890000-0000-7000-8000-000000000001" }))).toBe("not_found");
  expect(await as(tokens).getSecondFactor({})).toMatchObject({ on: true });
});

test("what staff sees of an account tells of it, whatever they do to it", async () => {
  const { userId } = await enrol();
  expect(await admin.setRoles({ userId, roles: ["clerk"] })).toMatchObject({ secondFactor: true });
  expect(await admin.setRoles({ userId, roles: ["clerk"] })).toMatchObject({ secondFactor: true });
  expect(await admin.blockUser({ userId, reason: "spam" })).toMatchObject({ secondFactor: true });
  expect(await admin.unblockUser({ userId })).toMatchObject({ secondFactor: true });
});

test("who was signed out since the call was let in gets no recovery codes", async () => {
  const { tokens } = await enrol();
  await as(tokens).signOut({ everywhere: true });
  expect(await failure(as(tokens).replaceRecoveryCodes({}))).toBe("no_session");
});
