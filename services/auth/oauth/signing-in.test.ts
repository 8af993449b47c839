import { expect, test } from "vitest";
import { IdentityLinkedSchema, SignedInSchema, UserRegisteredSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { waitingForLocks } from "#platform/postgres/database.testing.ts";
import { testServicesWith } from "#platform/process/services.testing.ts";
import { claimsOf, failure, PASSWORD, someEmail, tokensIn } from "../auth.testing.ts";
import { challengeIn, secondFactorClients } from "../second-factor/second-factor.testing.ts";
import { authService } from "../service.ts";
import { callbackOf, finishRequest, oauthClients, PUBLIC_URL, returnRequest, someLogin } from "./oauth.testing.ts";
import { browser, CLIENT, startOidcProvider } from "./outside.testing.ts";

const ADMIN = "first-admin@example.com";
const { issuer, people } = await startOidcProvider([callbackOf("local"), callbackOf("other")]);
const list = ["local", "other"].map((name) => ({ name, issuer, ...CLIENT }));
const services = await testServicesWith(
  { environment: { AUTH_OAUTH_PROVIDERS: JSON.stringify(list), AUTH_ADMINS: ADMIN, AUTH_OAUTH_RETURN_ORIGINS: "https://app.example.com" } },
  authService,
);
const heard = await services.hear();
await services.begin();
const copy = oauthClients(await services.copy());
const { guest, admin, as, register, goThrough, signIn } = oauthClients(services);
const database = services.database("auth");
const countOf = async (table: string, column: string, value: string): Promise<number> =>
  (await database.query({ text: `SELECT FROM ${table} WHERE ${column} = $1`, values: [value] })).rowCount;
/** A new user of the provider. */
function person(said: { email_verified?: boolean; email?: string } = {}) {
  const login = someLogin();
  const { value: email } = someEmail();
  people.set(login, { email, email_verified: true, ...said });
  return { login, email };
}

test("who comes from a provider for the first time gets an account with the address that it confirms, and next time the same", async () => {
  const { login, email } = person();
  const first = tokensIn(await signIn(login));
  expect(claimsOf(first)).toMatchObject({ sub: first.userId, sid: first.sessionId, roles: [], mfa: false });
  expect(await admin.getUser({ userId: first.userId })).toMatchObject({ email, roles: [], secondFactor: false });
  const second = tokensIn(await signIn(login));
  expect(second.userId).toBe(first.userId);
  expect(second.sessionId).not.toBe(first.sessionId);
  expect((await as(first).listIdentities({})).identities).toMatchObject([{ provider: "local", email }]);
  const typesOf = () => heard.filter(({ key }) => key === first.userId).map(({ type }) => type);
  await expect
    .poll(typesOf, { timeout: 5_000 })
    .toEqual([UserRegisteredSchema, IdentityLinkedSchema, SignedInSchema, SignedInSchema].map(({ typeName }) => typeName));
});

test("the browser goes on to the client's page, with what the client needs in the query, and nowhere else", async () => {
  const { login } = person();
  for (const [returnTo, page] of [
    ["/signed-in?tab=1&state=mine", `${PUBLIC_URL}/signed-in`],
    ["https://app.example.com/back", "https://app.example.com/back"],
  ] as const) {
    const flow = await guest.beginOauth({ provider: "local", returnTo });
    const { location, code } = await goThrough(flow, login);
    expect(code).toBe("");
    const url = new URL(location);
    expect(url.origin + url.pathname).toBe(page);
    expect(url.searchParams.getAll("state")).toEqual([new URL(flow.authorizationUrl).searchParams.get("state")]);
    expect(tokensIn(await guest.signInWithOauth(finishRequest(flow, returnRequest(url)))).userId).toBeDefined();
  }
  const elsewhere = ["https://evil.example", "//evil.example/", "/\\evil.example", "https:\\evil.example", "javascript:alert(1)"];
  elsewhere.push(
    "https://app.example.com.evil.example/",
    "https://app.example.com@evil.example/",
    "https://u:p@app.example.com/",
    "/#fragment",
  );
  elsewhere.push("http://app.example.com/", "blob:https://app.example.com/1", "\t//evil.example", "https://app.example.com:444/");
  for (const returnTo of elsewhere)
    expect([returnTo, await failure(guest.beginOauth({ provider: "local", returnTo }))]).toEqual([returnTo, "return_to_not_allowed"]);
});

test("a flow is finished by who has its secret alone, though somebody has all that came back", async () => {
  const { login } = person();
  const [mine, theirs] = [await guest.beginOauth({ provider: "local" }), await guest.beginOauth({ provider: "local" })];
  const came = await goThrough(mine, login);
  // Another client's secret, or none of ours.
  for (const flowSecret of [theirs.flowSecret, "x".repeat(43), mine.flowSecret.slice(1)])
    expect(await failure(guest.signInWithOauth({ ...finishRequest(mine, came), flowSecret }))).toBe("invalid_flow");
  // Another's flow, with the code that came for this one.
  const state = new URL(theirs.authorizationUrl).searchParams.get("state") ?? "";
  expect(await failure(guest.signInWithOauth({ ...finishRequest(mine, came), state }))).toBe("invalid_flow");
  expect(await failure(guest.signInWithOauth({ ...finishRequest(theirs, came), state }))).toBe("provider_refused");
  expect(await failure(guest.signInWithOauth(finishRequest(mine, came)))).toBe("answered");
});

test("whoever has somebody else sign in for a flow of theirs gets nothing: the code isn't in what they have", async () => {
  const { login } = person();
  const flow = await guest.beginOauth({ provider: "local" });
  const url = await browser().signIn(flow.authorizationUrl, login, PUBLIC_URL);
  const state = url.searchParams.get("state") ?? "";
  expect(await failure(guest.signInWithOauth({ flowSecret: flow.flowSecret, state, code: "guessed", iss: issuer }))).toBe(
    "provider_refused",
  );
});

test("a state that nobody has begun, or that was used, is refused, on the way back as at its end", async () => {
  const { login } = person();
  const flow = await guest.beginOauth({ provider: "local" });
  const came = await goThrough(flow, login);
  expect(await failure(guest.returnFromProvider({ provider: "local", state: "none", code: "x" }))).toBe("invalid_flow");
  expect(await failure(guest.returnFromProvider({ provider: "local", code: "x" }))).toBe("invalid_flow");
  expect(await failure(guest.signInWithOauth({ ...finishRequest(flow, came), state: "none" }))).toBe("invalid_flow");
  expect(await failure(guest.signInWithOauth(finishRequest(flow, came)))).toBe("answered");
  expect(await failure(guest.signInWithOauth(finishRequest(flow, came)))).toBe("invalid_flow");
  expect(await failure(guest.returnFromProvider({ provider: "local", state: came.state, code: came.code }))).toBe("invalid_flow");
});

test.skipIf(process.env.REDIS_URL !== undefined)("a flow is over after fifteen minutes", async () => {
  const { login } = person();
  const flow = await guest.beginOauth({ provider: "local" });
  expect(Number(flow.expiresAt?.seconds)).toBeCloseTo(Date.now() / 1000 + 900, -1);
  const came = await goThrough(flow, login);
  await services.database("kv").query({ text: "UPDATE passing_values SET expires_at = expires_at - interval '15 minutes'" });
  expect(await failure(guest.signInWithOauth(finishRequest(flow, came)))).toBe("invalid_flow");
  expect(await failure(guest.returnFromProvider({ provider: "local", state: came.state, code: came.code }))).toBe("invalid_flow");
});

test("by the way back of another provider nothing goes on", async () => {
  const flow = await guest.beginOauth({ provider: "local" });
  const state = new URL(flow.authorizationUrl).searchParams.get("state") ?? "";
  expect(await failure(guest.returnFromProvider({ provider: "other", state, code: "x" }))).toBe("invalid_flow");
});

test("of many who come at once with one flow, over two processes, one gets in", async () => {
  const { login } = person();
  const flow = await guest.beginOauth({ provider: "local" });
  const finish = finishRequest(flow, await copy.goThrough(flow, login));
  const outcomes = await Promise.all(
    Array.from({ length: 6 }, (_, i) => failure((i % 2 === 0 ? guest : copy.guest).signInWithOauth(finish))),
  );
  expect(outcomes.sort()).toEqual(["answered", ...Array.from({ length: 5 }, () => "invalid_flow")]);
});

test("a code is good once: another flow that comes with it is refused by the provider", async () => {
  const { login } = person();
  const flow = await guest.beginOauth({ provider: "local" });
  const came = await goThrough(flow, login);
  await guest.signInWithOauth(finishRequest(flow, came));
  const again = await guest.beginOauth({ provider: "local" });
  const state = new URL(again.authorizationUrl).searchParams.get("state") ?? "";
  expect(await failure(guest.signInWithOauth({ ...finishRequest(again, came), state }))).toBe("provider_refused");
});

test("of many flows of a new user that end at once, over two processes, one makes the account, and the others sign in to it or begin again", async () => {
  for (let times = 0; times < 5; times += 1) {
    const { login, email } = person();
    const finishes = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const flow = await guest.beginOauth({ provider: "local" });
        return finishRequest(flow, await goThrough(flow, login));
      }),
    );
    const outcomes = await Promise.all(finishes.map((finish, i) => failure((i % 2 === 0 ? guest : copy.guest).signInWithOauth(finish))));
    expect(outcomes).toContain("answered");
    expect(outcomes.filter((outcome) => outcome !== "answered" && outcome !== "begin_again")).toEqual([]);
    expect([await countOf("users", "email", email), await countOf("identities", "subject", login)]).toEqual([1, 1]);
    expect(await failure(signIn(login))).toBe("answered");
  }
});

test("an account that has the address isn't joined, though the provider confirms it", async () => {
  const contact = someEmail();
  await register(contact);
  const { login } = person({ email: contact.value.toUpperCase() });
  expect(await failure(signIn(login))).toBe("account_exists");
  expect(await countOf("identities", "subject", login)).toBe(0);
  expect(await failure(guest.signIn({ contact, password: PASSWORD }))).toBe("answered");
});

test("an address that isn't confirmed, or none, makes no account, nor does one that would make an admin", async () => {
  for (const said of [{ email_verified: false }, { email: "no address" }, { email: ADMIN }]) {
    const { login } = person(said);
    expect(await failure(signIn(login))).toBe("email_unverified");
    expect(await countOf("identities", "subject", login)).toBe(0);
  }
  const nameless = someLogin();
  expect(await failure(signIn(nameless))).toBe("email_unverified");
});

test("an address that the provider tells later, or another, changes nothing of the account", async () => {
  const { login, email } = person();
  const { userId } = tokensIn(await signIn(login));
  people.set(login, { email: someEmail().value, email_verified: true });
  expect(tokensIn(await signIn(login)).userId).toBe(userId);
  people.delete(login);
  expect(tokensIn(await signIn(login)).userId).toBe(userId);
  expect((await admin.getUser({ userId })).email).toBe(email);
});

test("who is blocked stays out; unblocked, comes in again", async () => {
  const { login } = person();
  const { userId } = tokensIn(await signIn(login));
  await admin.blockUser({ userId, reason: "spam" });
  expect(await failure(signIn(login))).toBe("account_blocked");
  await admin.unblockUser({ userId });
  expect(tokensIn(await signIn(login)).userId).toBe(userId);
});

test("an account with a second factor asks for it", async () => {
  const { enrol, guest: enrolled, as: asUser } = secondFactorClients(services);
  const { tokens, app, userId } = await enrol();
  const { login } = person();
  const flow = await asUser(tokens).beginLink({ provider: "local", password: PASSWORD });
  await asUser(tokens).linkIdentity(finishRequest(flow, await goThrough(flow, login)));
  const challengeId = challengeIn(await signIn(login));
  expect(claimsOf(await enrolled.signInWithSecondFactor({ challengeId, code: app.code() }))).toMatchObject({ sub: userId, mfa: true });
});

test("who has deleted the account gets a new one", async () => {
  const { login } = person();
  const first = tokensIn(await signIn(login));
  await as(first).deleteAccount({});
  expect(await countOf("identities", "subject", login)).toBe(1);
  const second = tokensIn(await signIn(login));
  expect(second.userId).not.toBe(first.userId);
  expect((await as(second).listIdentities({})).identities).toHaveLength(1);
});

test("what is left of a link to an account that was deleted at the same moment signs in to nothing, and is linked anew", async () => {
  const { login } = person();
  const first = tokensIn(await signIn(login));
  await as(first).deleteAccount({});
  await database.query({ text: "UPDATE identities SET unlinked_at = NULL WHERE subject = $1", values: [login] });
  const second = tokensIn(await signIn(login));
  expect(second.userId).not.toBe(first.userId);
  expect(tokensIn(await signIn(login)).userId).toBe(second.userId);
});

test("who was unlinked and linked to another account while they signed in is in neither, and begins again", async () => {
  const { login } = person();
  await signIn(login);
  const other = await register();
  let answer = Promise.resolve("");
  await database.transaction(async (tx) => {
    await tx.query({ text: "UPDATE identities SET user_id = $1 WHERE subject = $2", values: [other.userId, login] });
    answer = failure(signIn(login));
    await expect.poll(() => waitingForLocks(database), { timeout: 5_000 }).toBe(1);
  });
  expect(await answer).toBe("begin_again");
  expect(tokensIn(await signIn(login)).userId).toBe(other.userId);
});

test("the providers are listed, and one that there isn't is not found", async () => {
  expect((await guest.listOauthProviders({})).providers).toEqual(["local", "other"]);
  expect(await failure(guest.beginOauth({ provider: "none" }))).toBe("not_found");
});

test("neither code, verifier, nonce nor secret lies in the store, and the state only as a hash", async () => {
  const flow = await guest.beginOauth({ provider: "local" });
  const asked = new URL(flow.authorizationUrl).searchParams;
  expect(asked.get("code_challenge_method")).toBe("S256");
  expect(asked.get("redirect_uri")).toBe(callbackOf("local"));
  if (process.env.REDIS_URL !== undefined) return;
  const { rows } = await services.database("kv").query<{ all: string }>({
    text: "SELECT string_agg(key || ' ' || encode(value, 'escape'), ' ') AS all FROM passing_values",
  });
  expect(rows[0]?.all).toContain("auth.begun-oauth");
  for (const secret of [flow.flowSecret, asked.get("state"), asked.get("nonce")]) expect(rows[0]?.all).not.toContain(secret);
});
