import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { testServices } from "#platform/process/services.testing.ts";
import { authClients, codeOf, lettersTo, PASSWORD, someEmail, tokensIn } from "../auth.testing.ts";
import { authService } from "../service.ts";
import type { Contact } from "./contact.ts";

const services = await testServices(authService);
const database = services.database("auth");
const { guest, register } = authClients(services);
const email = (value: string): Contact => ({ case: "email", value });
const unique = () => randomUUID().slice(0, 8);
const violations = (contact: Contact): Promise<string[]> =>
  guest.signIn({ contact, password: PASSWORD }).then(
    () => [],
    ({ code, violations: broken }) =>
      (code === "validation_failed" ? broken : []).map(({ field, rule }: Record<string, string>) => `${field} ${rule}`),
  );

test.each([
  ["of letters of another script", "анна@example.com", "email string.email"],
  ["whose domain is of another script", "anna@пример.example", "email string.email"],
  // In lower case it would be a k, and the address somebody else's.
  ["with a sign that looks like a letter", "\u212Aate@example.com", "email string.email"],
  ["with a space", "anna @example.com", "email string.email"],
  ["with a line's end", "anna@example.com\r\nBcc: x@example.com", "email string.email"],
  ["of two", "anna@example.com,boris@example.com", "email string.email"],
  ["with a name", "Anna <anna@example.com>", "email string.email"],
  ["without anything", "", "email string.email"],
  ["that is too long", `${"a".repeat(60)}@${"b".repeat(60)}.${"c".repeat(60)}.${"d".repeat(60)}.${"e".repeat(12)}`, "email string.max_len"],
])("an address of mail %s is refused, by a rule that is named", async (_, value, rule) => {
  expect((await violations(email(value))).join()).toContain(rule.split(" ")[1]);
  expect((await violations(email(value))).join()).toMatch(/^email /);
});

test.each(["14155552671", "+0155552671", "+1 415 555 2671", "+1415", "+14155552671٣", "+1415555267100000"])(
  "%s is no phone number",
  async (value) => {
    expect(await violations({ case: "phone", value })).toEqual(["phone string.pattern"]);
  },
);

test("an address of mail as long as they may be has an account", async () => {
  const contact = email(`${unique()}${"a".repeat(56)}@${"b".repeat(63)}.${"c".repeat(63)}.${"d".repeat(61)}`);
  expect(contact.value).toHaveLength(254);
  const { userId } = await register(contact);
  expect(tokensIn(await guest.signIn({ contact, password: PASSWORD })).userId).toBe(userId);
});

test("an address is one however its letters are written: one account, one count of tries", async () => {
  const name = `Anna.Case-${unique()}`;
  const spellings = [`${name}@Example.COM`, `${name}@example.com`.toUpperCase(), `${name}@example.com`.toLowerCase()].map(email);
  const { userId } = await register(spellings[0]);
  for (const contact of spellings) expect(tokensIn(await guest.signIn({ contact, password: PASSWORD })).userId).toBe(userId);
  const again = await guest.signUp({ contact: spellings[1]!, password: PASSWORD });
  await expect(guest.confirmSignUp({ challengeId: again.challengeId, code: codeOf(again) })).rejects.toMatchObject({
    code: "contact_taken",
  });
  const wrong = Array.from({ length: 6 }, (_, i) => guest.signIn({ contact: spellings[i % 3]!, password: "not it" }));
  const codes = await Promise.all(wrong.map((call) => call.catch(({ code }) => code)));
  expect(codes.filter((code) => code === "too_many_tries")).toHaveLength(1);
});

test("what is behind a plus makes another address, for not every mailbox takes it for the same", async () => {
  const name = unique();
  const accounts = [await register(email(`${name}@example.com`)), await register(email(`${name}+shop@example.com`))];
  expect(accounts[0]?.userId).not.toBe(accounts[1]?.userId);
});

test("who signs up chooses neither the account's id nor its roles nor its state", async () => {
  const contact = someEmail();
  const wish = { userId: randomUUID(), id: randomUUID(), roles: ["admin"], status: "DELETED", tokenVersion: 9, passwordHash: "x" };
  const challenge = await guest.signUp({ contact, password: PASSWORD, ...wish } as never);
  const { userId } = await guest.confirmSignUp({ challengeId: challenge.challengeId, code: codeOf(challenge), ...wish } as never);
  expect(Object.values(wish)).not.toContain(userId);
  const { rows } = await database.query({ text: "SELECT roles, status, token_version FROM users WHERE id = $1", values: [userId] });
  expect(rows).toEqual([{ roles: "", status: "ACTIVE", token_version: 1 }]);
});

test("a sign-up hashes, keeps and sends as much where there is an account as where there is none", async () => {
  const [known, unknown] = [someEmail(), someEmail()];
  await register(known);
  const before = (await lettersTo(services, known)).length;
  for (const contact of [known, unknown]) {
    const { challengeId } = await guest.signUp({ contact, password: PASSWORD });
    const { rows } = await database.query({
      text: "SELECT left(password_hash, 9) AS hash FROM challenges WHERE id = $1",
      values: [challengeId],
    });
    expect(rows).toEqual([{ hash: "$argon2id" }]);
    expect(await lettersTo(services, contact)).toHaveLength(contact === known ? before + 1 : 1);
  }
});

test("a code that is asked for is kept where there is no account as well: its commit takes as long", async () => {
  const [known, unknown] = [someEmail(), someEmail()];
  await register(known);
  for (const contact of [known, unknown]) {
    const { challengeId } = await guest.requestCode({ contact });
    const { rows } = await database.query({
      text: "SELECT user_id IS NULL AS nobodys FROM challenges WHERE id = $1",
      values: [challengeId],
    });
    expect(rows).toEqual([{ nobodys: contact === unknown }]);
  }
});
