import { expect, test } from "vitest";
import { RequestCodeRequest_Purpose, User_Status } from "#contracts/polis/auth/v1/auth_pb.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { answerTo, authClients, failure, lettersTo, PASSWORD, someEmail, somePhone, tokensIn, wrongCodeOf } from "../auth.testing.ts";
import { authService } from "../service.ts";

const services = await testServices(authService);
const heard = await services.hear();
const { guest, as, register, admin, gateway } = authClients(services);
const templatesTo = async (...of: Parameters<typeof lettersTo>) => (await lettersTo(...of)).map(({ template }) => template);

test("another address of mail is the account's once its code was given; both are told, and the old one is free", async () => {
  const [old, next] = [someEmail(), someEmail()];
  const tokens = await register(old);
  const challenge = await as(tokens).changeContact({ contact: next, password: PASSWORD });
  expect(await failure(guest.signIn({ contact: next, password: PASSWORD }))).toBe("invalid_credentials");
  expect(await as(tokens).confirmContact(answerTo(challenge))).toMatchObject({ id: tokens.userId, email: next.value });
  expect(tokensIn(await guest.signIn({ contact: next, password: PASSWORD })).userId).toBe(tokens.userId);
  expect(await failure(guest.signIn({ contact: old, password: PASSWORD }))).toBe("invalid_credentials");
  expect(await templatesTo(services, old)).toEqual(["confirm-sign-up", "contact-changed"]);
  expect(await templatesTo(services, next)).toEqual(["confirm-contact", "contact-changed"]);
  expect((await lettersTo(services, old)).at(-1)?.params).toMatchObject({ what: "email", value: "u…@example.com" });
  const { userId } = await register(old);
  expect(userId).not.toBe(tokens.userId);
});

test.each([
  ["sign in", RequestCodeRequest_Purpose.SIGN_IN, (answer: ReturnType<typeof answerTo>) => guest.signInWithCode(answer)],
  [
    "set a password",
    RequestCodeRequest_Purpose.RESET_PASSWORD,
    (answer: ReturnType<typeof answerTo>) => guest.resetPassword({ ...answer, newPassword: "eight yellow herons sing" }),
  ],
])("a code to %s that went to the old address is none for the account any more", async (_, purpose, use) => {
  const [old, next] = [someEmail(), someEmail()];
  const tokens = await register(old);
  const change = await as(tokens).changeContact({ contact: next, password: PASSWORD });
  const early = await guest.requestCode({ contact: old, purpose });
  await as(tokens).confirmContact(answerTo(change));
  expect(await failure(use(answerTo(early)))).toBe("invalid_code");
  expect(await failure(guest.signIn({ contact: next, password: PASSWORD }))).toBe("answered");
});

test("a number is put beside the address, by either of which its owner signs in; who had none of it before is told at the other", async () => {
  const [email, phone] = [someEmail(), somePhone()];
  const tokens = await register(email);
  const challenge = await as(tokens).changeContact({ contact: phone, password: PASSWORD });
  await as(tokens).confirmContact(answerTo(challenge));
  for (const contact of [email, phone]) expect(tokensIn(await guest.signIn({ contact, password: PASSWORD })).userId).toBe(tokens.userId);
  expect(await templatesTo(services, email)).toEqual(["confirm-sign-up", "contact-changed"]);
});

test("an address that somebody has is answered the same, and isn't to be had; its holder is told", async () => {
  const [taken, own] = [someEmail(), someEmail()];
  await register(taken);
  const tokens = await register(own);
  const challenge = await as(tokens).changeContact({ contact: taken, password: PASSWORD });
  expect(await templatesTo(services, taken)).toEqual(["confirm-sign-up", "sign-up-again"]);
  expect(await failure(as(tokens).confirmContact(answerTo(challenge)))).toBe("contact_taken");
});

test("only who knows the password begins it, only who began it ends it, and by this code alone", async () => {
  const [tokens, stranger, next] = [await register(), await register(), someEmail()];
  expect(await failure(as(tokens).changeContact({ contact: next, password: "not the password" }))).toBe("wrong_password");
  expect(await failure(as(tokens).changeContact({ contact: next }))).toBe("wrong_password");
  const challenge = await as(tokens).changeContact({ contact: next, password: PASSWORD });
  expect(await failure(as(stranger).confirmContact(answerTo(challenge)))).toBe("invalid_code");
  expect(await failure(as(tokens).confirmContact({ ...answerTo(challenge), code: wrongCodeOf(challenge) }))).toBe("invalid_code");
  expect(await failure(guest.signInWithCode(answerTo(challenge)))).toBe("invalid_code");
  expect(await failure(as(tokens).confirmContact(answerTo(challenge)))).toBe("answered");
  expect(await failure(as(tokens).confirmContact(answerTo(challenge)))).toBe("invalid_code");
});

test("of two accounts that are to get one address at once, one has it", async () => {
  const next = someEmail();
  const both = [await register(), await register()];
  const challenges = await Promise.all(both.map((tokens) => as(tokens).changeContact({ contact: next, password: PASSWORD })));
  const outcomes = await Promise.all(both.map((tokens, i) => failure(as(tokens).confirmContact(answerTo(challenges[i]!)))));
  expect(outcomes.sort()).toEqual(["answered", "contact_taken"]);
});

test("an account that its owner deletes is gone: nobody signs in to it, its address is free, and its sessions and keys are over", async () => {
  const contact = someEmail();
  const tokens = await register(contact);
  const { key } = await as(tokens).createApiKey({ name: "x", scopes: ["orders:read"] });
  expect(await failure(as(tokens).deleteAccount({ password: "not the password" }))).toBe("wrong_password");
  await as(tokens).deleteAccount({ password: PASSWORD });
  expect(await failure(guest.signIn({ contact, password: PASSWORD }))).toBe("invalid_credentials");
  expect(await failure(guest.refresh({ refreshToken: tokens.refreshToken }))).toBe("invalid_refresh_token");
  expect(await failure(as(tokens).deleteAccount({ password: PASSWORD }))).toBe("no_session");
  expect(await failure(gateway.verifyApiKey({ key }))).toBe("invalid_api_key");
  expect(await admin.getUser({ userId: tokens.userId })).toMatchObject({ status: User_Status.DELETED, roles: [] });
  expect(await failure(admin.setRoles({ userId: tokens.userId, roles: ["support"] }))).toBe("not_found");
  const { rows } = await services
    .database("auth")
    .query<{ all: string }>({ text: "SELECT u::text AS all FROM users u WHERE id = $1", values: [tokens.userId] });
  expect(rows[0]?.all).not.toContain(contact.value);
  expect(rows[0]?.all).not.toContain("argon2");
  expect((await templatesTo(services, contact)).at(-1)).toBe("account-deleted");
  expect((await register(contact)).userId).not.toBe(tokens.userId);
});

test("each is told on auth.events", async () => {
  await services.begin();
  const next = someEmail();
  const tokens = await register();
  await as(tokens).confirmContact(answerTo(await as(tokens).changeContact({ contact: next, password: PASSWORD })));
  await as(tokens).deleteAccount({ password: PASSWORD });
  await expect
    .poll(() => heard.filter(({ key }) => key === tokens.userId).map(({ type }) => type.replace("polis.auth.v1.", "")), { timeout: 5_000 })
    .toEqual(["UserRegistered", "SignedIn", "ContactChanged", "SessionsEnded", "UserDeleted"]);
});
