import { fromBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import type { Tokens } from "#contracts/polis/auth/v1/auth_pb.ts";
import { RequestCodeRequest_Purpose as Purpose } from "#contracts/polis/auth/v1/auth_pb.ts";
import { IdentityLinkedSchema, IdentityUnlinkedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { ForgetOverSchema } from "#contracts/polis/auth/v1/tasks_pb.ts";
import { testServicesWith } from "#platform/process/services.testing.ts";
import { codeOf, failure, lettersTo, PASSWORD, someEmail, tokensIn } from "../auth.testing.ts";
import { authService } from "../service.ts";
import { callbackOf, finishRequest, oauthClients, someLogin } from "./oauth.testing.ts";
import { CLIENT, startOidcProvider } from "./outside.testing.ts";

const { issuer, people } = await startOidcProvider([callbackOf("local")]);
const services = await testServicesWith(
  { environment: { AUTH_OAUTH_PROVIDERS: JSON.stringify([{ name: "local", issuer, ...CLIENT }]) } },
  authService,
);
const heard = await services.hear();
await services.begin();
const copy = oauthClients(await services.copy());
const { guest, admin, as, register, goThrough, signIn } = oauthClients(services);
const database = services.database("auth");

const beginLink = (tokens: Tokens, password = PASSWORD) => as(tokens).beginLink({ provider: "local", password });
/** Links this user of the provider to the account. */
async function link(tokens: Tokens, login: string, password = PASSWORD) {
  const flow = await beginLink(tokens, password);
  return as(tokens).linkIdentity(finishRequest(flow, await goThrough(flow, login)));
}
const identitiesOf = async (tokens: Tokens) => (await as(tokens).listIdentities({})).identities;
const grown = (tokens: Tokens) =>
  database.query({ text: "UPDATE sessions SET created_at = created_at - interval '1 hour' WHERE id = $1", values: [tokens.sessionId] });
/** An account without a password, made by a provider. */
async function withoutPassword() {
  const [login, { value: email }] = [someLogin(), someEmail()];
  people.set(login, { email, email_verified: true });
  return { login, email, tokens: tokensIn(await signIn(login)) };
}

test("a provider is linked to an account, whose owner is told, and signs in to it from then on", async () => {
  const contact = someEmail();
  const tokens = await register(contact);
  const login = someLogin();
  const linked = await link(tokens, login);
  expect(linked).toMatchObject({ provider: "local", email: "" });
  expect(await identitiesOf(tokens)).toEqual([linked]);
  expect(tokensIn(await signIn(login)).userId).toBe(tokens.userId);
  const [letter] = (await lettersTo(services, contact)).slice(-1);
  expect(letter).toMatchObject({ template: "identity-linked", params: { provider: "local" } });
  // The same again changes nothing, and tells nobody.
  expect(await link(tokens, login)).toEqual(linked);
  expect((await lettersTo(services, contact)).filter(({ template }) => template === "identity-linked")).toHaveLength(1);
  const told = () => heard.filter(({ type, key }) => type === IdentityLinkedSchema.typeName && key === tokens.userId);
  await expect.poll(() => told().length, { timeout: 5_000 }).toBe(1);
  expect(fromBinary(IdentityLinkedSchema, told()[0]?.payload as Uint8Array).data).toMatchObject({
    identityId: linked.id,
    provider: "local",
  });
});

test("one that has an account with the address signs in to it after it was linked, and not before", async () => {
  const contact = someEmail();
  const tokens = await register(contact);
  const login = someLogin();
  people.set(login, { email: contact.value, email_verified: true });
  expect(await failure(signIn(login))).toBe("account_exists");
  await link(tokens, login);
  expect(tokensIn(await signIn(login)).userId).toBe(tokens.userId);
});

test("to link asks for the password, or for a fresh session where there is none", async () => {
  const tokens = await register();
  expect(await failure(beginLink(tokens, "not the password"))).toBe("wrong_password");
  expect(await failure(beginLink(tokens, ""))).toBe("wrong_password");
  const { tokens: fresh } = await withoutPassword();
  expect(await failure(beginLink(fresh, ""))).toBe("answered");
  await grown(fresh);
  expect(await failure(beginLink(fresh, ""))).toBe("session_not_fresh");
});

test("a link is finished by who has begun it alone, and as a link alone; a sign-in is no link", async () => {
  const [anna, boris] = [await register(), await register()];
  const login = someLogin();
  const flow = await beginLink(anna);
  const finish = finishRequest(flow, await goThrough(flow, login));
  expect(await failure(as(boris).linkIdentity(finish))).toBe("invalid_flow");
  expect(await failure(guest.signInWithOauth(finish))).toBe("invalid_flow");
  const other = await guest.beginOauth({ provider: "local" });
  expect(await failure(as(boris).linkIdentity(finishRequest(other, await goThrough(other, login))))).toBe("invalid_flow");
  expect(await identitiesOf(boris)).toEqual([]);
  expect(await failure(as(anna).linkIdentity(finish))).toBe("answered");
});

test("what is linked to one account isn't linked to another, though both come at once, over two processes", async () => {
  const login = someLogin();
  const accounts = await Promise.all([register(), register(), register(), register()]);
  const finishes = await Promise.all(
    accounts.map(async (tokens) => {
      const flow = await beginLink(tokens);
      return finishRequest(flow, await goThrough(flow, login));
    }),
  );
  const outcomes = await Promise.all(
    accounts.map((tokens, i) => failure((i % 2 === 0 ? as : copy.as)(tokens).linkIdentity(finishes[i] ?? {}))),
  );
  expect(outcomes.filter((outcome) => outcome === "answered")).toHaveLength(1);
  const noes = outcomes.filter((outcome) => outcome !== "answered");
  expect(noes.filter((outcome) => outcome !== "identity_taken" && outcome !== "begin_again")).toEqual([]);
  const [owner] = accounts.filter((_, i) => outcomes[i] === "answered");
  expect(tokensIn(await signIn(login)).userId).toBe(owner?.userId);
  const [another] = accounts.filter((_, i) => outcomes[i] !== "answered");
  expect(await failure(link(another as Tokens, login))).toBe("identity_taken");
});

test("a session that has ended, or whose user is blocked, links and unlinks nothing, though its token is let in", async () => {
  const tokens = await register();
  const { id: identityId } = await link(tokens, someLogin());
  const flow = await beginLink(tokens);
  const finish = finishRequest(flow, await goThrough(flow, someLogin()));
  await admin.blockUser({ userId: tokens.userId, reason: "spam" });
  expect(await failure(beginLink(tokens))).toBe("no_session");
  expect(await failure(as(tokens).linkIdentity(finish))).toBe("no_session");
  expect(await failure(as(tokens).unlinkIdentity({ identityId }))).toBe("no_session");
});

test("what is unlinked signs in no more, its owner is told, and it may be linked again, by another as well", async () => {
  const contact = someEmail();
  const tokens = await register(contact);
  const login = someLogin();
  const { id: identityId } = await link(tokens, login);
  for (let times = 0; times < 2; times += 1) await as(tokens).unlinkIdentity({ identityId });
  expect(await identitiesOf(tokens)).toEqual([]);
  // To a user of whom no address is known no account is made.
  expect(await failure(signIn(login))).toBe("email_unverified");
  const letters = (await lettersTo(services, contact)).map(({ template }) => template);
  expect(letters.filter((template) => template === "identity-unlinked")).toHaveLength(1);
  const told = () => heard.filter(({ type, key }) => type === IdentityUnlinkedSchema.typeName && key === tokens.userId);
  await expect.poll(() => told().length, { timeout: 5_000 }).toBe(1);
  const other = await register();
  await link(other, login);
  expect(tokensIn(await signIn(login)).userId).toBe(other.userId);
  expect(await failure(as(tokens).unlinkIdentity({ identityId }))).toBe("not_found");
  expect(await identitiesOf(other)).toHaveLength(1);
});

test("the last way to sign in can't be taken away: a password, or another provider's user, has to be left", async () => {
  const { tokens, email } = await withoutPassword();
  const [first] = await identitiesOf(tokens);
  const unlinkFirst = () => failure(as(tokens).unlinkIdentity({ identityId: first?.id ?? "" }));
  expect(await unlinkFirst()).toBe("last_way_to_sign_in");
  const { id: identityId } = await link(tokens, someLogin(), "");
  expect(await unlinkFirst()).toBe("answered");
  expect(await failure(as(tokens).unlinkIdentity({ identityId }))).toBe("last_way_to_sign_in");
  const contact = { case: "email", value: email } as const;
  const { challengeId } = await guest.requestCode({ contact, purpose: Purpose.RESET_PASSWORD });
  await guest.resetPassword({ challengeId, code: codeOf({ challengeId }), newPassword: PASSWORD });
  const again = tokensIn(await guest.signIn({ contact, password: PASSWORD }));
  expect(await failure(as(again).unlinkIdentity({ identityId }))).toBe("answered");
});

test("of two that are unlinked at once, over two processes, one stays where there is no password", async () => {
  for (let times = 0; times < 5; times += 1) {
    const { tokens } = await withoutPassword();
    await link(tokens, someLogin(), "");
    const identities = await identitiesOf(tokens);
    const outcomes = await Promise.all(
      identities.map(({ id }, i) => failure((i === 0 ? as : copy.as)(tokens).unlinkIdentity({ identityId: id }))),
    );
    expect(outcomes.sort()).toEqual(["answered", "last_way_to_sign_in"]);
    expect(await identitiesOf(tokens)).toHaveLength(1);
  }
});

test("another's isn't there to be unlinked", async () => {
  const [anna, boris] = [await register(), await register()];
  const { id: identityId } = await link(anna, someLogin());
  expect(await failure(as(boris).unlinkIdentity({ identityId }))).toBe("not_found");
  expect(await identitiesOf(anna)).toHaveLength(1);
});

test("an account is linked to twenty at the most", async () => {
  const tokens = await register();
  await database.query({
    text: `INSERT INTO identities (id, provider, issuer, subject, user_id, linked_at)
           SELECT gen_random_uuid(), 'local', 'https://many.example', $1::text || n, $1::uuid, now() FROM generate_series(1, 20) n`,
    values: [tokens.userId],
  });
  expect(await failure(link(tokens, someLogin()))).toBe("too_many_identities");
});

test("with the account goes what it was linked to, and what is unlinked is forgotten a day later", async () => {
  const tokens = await register();
  const { id } = await link(tokens, someLogin());
  await as(tokens).deleteAccount({ password: PASSWORD });
  const left = async () =>
    (await database.query({ text: "SELECT FROM identities WHERE id = $1 AND unlinked_at IS NOT NULL", values: [id] })).rowCount;
  expect(await left()).toBe(1);
  await database.query({ text: "UPDATE identities SET unlinked_at = unlinked_at - interval '25 hours' WHERE id = $1", values: [id] });
  await services.enqueue("auth", ForgetOverSchema, {});
  await expect.poll(left, { timeout: 5_000 }).toBe(0);
});
