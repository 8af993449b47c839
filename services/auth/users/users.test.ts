import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { AuthService, RequestCodeRequest_Purpose as Purpose, User_Status } from "#contracts/polis/auth/v1/auth_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { answerTo, authClients, claimsOf, failure, PASSWORD, someEmail, tokensIn } from "../auth.testing.ts";
import { authService } from "../service.ts";

const services = await testServices(authService);
const heard = await services.hear();
await services.begin();
const { guest, register, admin } = authClients(services);
const eventsOf = (userId: string) => heard.filter(({ key }) => key === userId).map(({ type }) => type.replace("polis.auth.v1.", ""));

test("an admin makes an account, whose owner signs in at once, with the roles that were given", async () => {
  const [contact, userId] = [someEmail(), randomUUID()];
  const user = await admin.createUser({ userId, contact, password: PASSWORD, roles: ["support", "auditor"] });
  expect(user).toMatchObject({ id: userId, email: contact.value, roles: ["auditor", "support"], status: User_Status.ACTIVE });
  const tokens = tokensIn(await guest.signIn({ contact, password: PASSWORD }));
  expect(claimsOf(tokens).roles).toEqual(["auditor", "support"]);
  expect(await failure(admin.createUser({ contact, password: PASSWORD }))).toBe("contact_taken");
  expect(await failure(admin.createUser({ userId, contact: someEmail(), password: PASSWORD }))).toBe("contact_taken");
  expect(await failure(admin.createUser({ contact: someEmail(), password: "password1234" }))).toBe("weak_password");
});

test("a role that there isn't is refused, and twice the same is one", async () => {
  const { userId } = await register();
  for (const roles of [["root"], ["user"], ["support", "support"], [""]])
    expect(await failure(admin.setRoles({ userId, roles }))).toBe("validation_failed");
  expect((await admin.setRoles({ userId, roles: ["support"] })).roles).toEqual(["support"]);
});

test("other roles are told, and tokens with those of before are over; the same again changes nothing", async () => {
  const contact = someEmail();
  const { userId } = await register(contact);
  for (let times = 0; times < 2; times += 1) await admin.setRoles({ userId, roles: ["support"] });
  expect(claimsOf(tokensIn(await guest.signIn({ contact, password: PASSWORD })))).toMatchObject({ ver: 2, roles: ["support"] });
  await expect.poll(() => eventsOf(userId), { timeout: 5_000 }).toEqual(["UserRegistered", "SignedIn", "RolesChanged", "SignedIn"]);
});

test("who is blocked is out at once, and learns why only with the right password; unblocked, may sign in anew", async () => {
  const contact = someEmail();
  const tokens = await register(contact);
  const { userId } = tokens;
  for (let times = 0; times < 2; times += 1)
    expect(await admin.blockUser({ userId, reason: "fraud" })).toMatchObject({ status: User_Status.BLOCKED, blockedReason: "fraud" });
  expect(await failure(guest.refresh({ refreshToken: tokens.refreshToken }))).toBe("invalid_refresh_token");
  expect(await failure(guest.signIn({ contact, password: "not the password" }))).toBe("invalid_credentials");
  expect(await failure(guest.signIn({ contact, password: PASSWORD }))).toBe("account_blocked");
  for (let times = 0; times < 2; times += 1) expect((await admin.unblockUser({ userId })).status).toBe(User_Status.ACTIVE);
  expect(await failure(guest.refresh({ refreshToken: tokens.refreshToken }))).toBe("invalid_refresh_token");
  expect(await failure(guest.signIn({ contact, password: PASSWORD }))).toBe("answered");
  await expect
    .poll(() => eventsOf(userId), { timeout: 5_000 })
    .toEqual(["UserRegistered", "SignedIn", "UserBlocked", "SessionsEnded", "SignInFailed", "UserUnblocked", "SignedIn"]);
});

test("nobody blocks the own account, and who isn't there can't be", async () => {
  const { userId } = await register();
  const own = services.client(AuthService, userCaller(userId, { roles: ["admin"], secondFactor: true }));
  expect(await failure(own.blockUser({ userId, reason: "x" }))).toBe("own_account");
  for (const call of [
    admin.blockUser({ userId: randomUUID(), reason: "x" }),
    admin.unblockUser({ userId: randomUUID() }),
    admin.setRoles({ userId: randomUUID() }),
  ])
    expect(await failure(call)).toBe("not_found");
});

test("support sees an account, and neither blocks it nor gives roles; an admin without a second factor doesn't either", async () => {
  const { userId } = await register();
  const support = services.client(AuthService, userCaller(randomUUID(), { roles: ["support"], secondFactor: true }));
  expect((await support.getUser({ userId })).id).toBe(userId);
  const weak = services.client(AuthService, userCaller(randomUUID(), { roles: ["admin"] }));
  for (const client of [support, weak]) {
    expect(await failure(client.blockUser({ userId, reason: "x" }))).toBe("forbidden");
    expect(await failure(client.setRoles({ userId, roles: ["admin"] }))).toBe("forbidden");
    expect(await failure(client.createUser({ contact: someEmail(), password: PASSWORD }))).toBe("forbidden");
  }
});

test("an admin takes that role from others, not from their own account, nor blocks it, however its id is written", async () => {
  const [{ userId }, { userId: otherId }] = [await register(), await register()];
  for (const id of [userId, otherId]) await admin.setRoles({ userId: id, roles: ["admin"] });
  const self = services.client(AuthService, userCaller(userId, { roles: ["admin"], secondFactor: true }));
  for (const id of [userId, userId.toUpperCase()]) {
    expect(await failure(self.blockUser({ userId: id, reason: "a test" }))).toBe("own_account");
    expect(await failure(self.setRoles({ userId: id, roles: ["support"] }))).toBe("own_account");
  }
  expect((await self.setRoles({ userId, roles: ["admin", "support"] })).roles).toEqual(["admin", "support"]);
  expect((await self.setRoles({ userId: otherId, roles: [] })).roles).toEqual([]);
});

test("who is blocked is refused with a code as well, and stays blocked by another password", async () => {
  const contact = someEmail();
  const { id: userId } = await admin.createUser({ contact, password: PASSWORD });
  const [signIn, reset] = [await guest.requestCode({ contact }), await guest.requestCode({ contact, purpose: Purpose.RESET_PASSWORD })];
  await admin.blockUser({ userId, reason: "a test" });
  expect(await failure(guest.signInWithCode(answerTo(signIn)))).toBe("account_blocked");
  await guest.resetPassword({ ...answerTo(reset), newPassword: "nine copper lanterns sing" });
  expect(await failure(guest.signIn({ contact, password: "nine copper lanterns sing" }))).toBe("account_blocked");
});
