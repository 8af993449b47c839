import { hkdfSync } from "node:crypto";
import { decodeProtectedHeader, SignJWT } from "jose";
import { describe, expect, test } from "vitest";
import { nobody, serviceCaller, userCaller } from "#platform/access/caller.ts";
import { callerTokens } from "#platform/access/caller-token.ts";
import { secretsOf } from "#platform/access/secrets.ts";

const SECRET = "a secret of at least thirty-two characters";
const OTHER = "another secret of more than thirty-two characters";
const user = userCaller("01890000-0000-7000-8000-000000000001", { roles: ["auditor"], scopes: ["orders:read"], secondFactor: true });
const refused = { status: "UNAUTHENTICATED", code: "caller_token_refused" };

/** A token as an attacker, or another system with our key, would make it. */
const forge = (claims: Record<string, unknown>, secret = SECRET, header: Record<string, unknown> = {}) => {
  const tokens = callerTokens({ secrets: secretsOf([SECRET]) });
  return tokens.sign(user).then((own) => {
    const { kid } = decodeProtectedHeader(own);
    return new SignJWT({ iss: "polis", sub: "user:x", ...claims })
      .setProtectedHeader({ alg: "HS256", typ: "polis-caller+jwt", kid: kid as string, ...header })
      .sign(new Uint8Array(hkdfSync("sha256", secret, "", "polis caller token v1", 32)));
  });
};
const inAMinute = () => Math.floor(Date.now() / 1000) + 60;

describe("a caller token", () => {
  test.each([
    ["a user", user],
    ["a service", serviceCaller("payments")],
    ["a service for a user", serviceCaller("payments", user)],
    [
      "a program with a user's key",
      userCaller("01890000-0000-7000-8000-000000000001", { apiKeyId: "01890000-0000-7000-8000-000000000003", scopes: ["orders:read"] }),
    ],
    ["a user with the session", userCaller("01890000-0000-7000-8000-000000000001", { sessionId: "01890000-0000-7000-8000-000000000002" })],
    ["a user whose id holds a colon", userCaller("a:b:c")],
  ])("names %s as it was", async (_, caller) => {
    const tokens = callerTokens({ secrets: secretsOf([SECRET]) });
    expect(await tokens.verify(await tokens.sign(caller))).toEqual(caller);
    // From the cache as well.
    expect(await tokens.verify(await tokens.sign(caller))).toEqual(caller);
  });

  test("names one user however the id is written, also in a token that another signed", async () => {
    const tokens = callerTokens({ secrets: secretsOf([SECRET]) });
    const id = "ABCDEF01-2345-7000-8000-ABCDEFABCDEF";
    expect(userCaller(id).userId).toBe(id.toLowerCase());
    expect(await tokens.verify(await tokens.sign({ ...user, userId: id }))).toEqual({ ...user, userId: id.toLowerCase() });
    expect(await tokens.verify(await tokens.sign(serviceCaller("payments", { ...user, userId: id })))).toEqual(
      serviceCaller("payments", userCaller(id, user)),
    );
  });

  test("is not made for nobody", () => {
    expect(() => callerTokens({ secrets: secretsOf([SECRET]) }).sign(nobody)).toThrow("nobody");
  });

  test("is the same one for half of its life, and is over after its life and a little skew", async () => {
    let nowMs = 1_800_000_000_000;
    const tokens = callerTokens({ secrets: secretsOf([SECRET]), clock: () => nowMs });
    const first = await tokens.sign(user);
    nowMs += 29_999;
    expect(await tokens.sign({ ...user })).toBe(first);
    nowMs += 1;
    expect(await tokens.sign(user)).not.toBe(first);
    nowMs += 30_000 + 4_000;
    expect(await tokens.verify(first)).toEqual(user);
    nowMs += 1_000;
    await expect(tokens.verify(first)).rejects.toMatchObject({ ...refused, message: "The caller token has expired." });
  });

  test("of an older secret is good until that secret is dropped", async () => {
    const token = await callerTokens({ secrets: secretsOf([OTHER]) }).sign(user);
    expect(await callerTokens({ secrets: secretsOf([SECRET, OTHER]) }).verify(token)).toEqual(user);
    await expect(callerTokens({ secrets: secretsOf([SECRET]) }).verify(token)).rejects.toMatchObject(refused);
  });

  test.each<[string, () => Promise<string>]>([
    ["under another key", () => forge({ exp: inAMinute() }, OTHER)],
    ["of another issuer", () => forge({ exp: inAMinute(), iss: "elsewhere" })],
    ["without an end", () => forge({})],
    ["of another type", () => forge({ exp: inAMinute() }, SECRET, { typ: "JWT" })],
    ["without a key id", () => forge({ exp: inAMinute() }, SECRET, { kid: undefined })],
    ["for neither user nor service", () => forge({ exp: inAMinute(), sub: "root" })],
    ["whose actor is a user", () => forge({ exp: inAMinute(), act: { sub: "user:y" } })],
    ["whose actor is null", () => forge({ exp: inAMinute(), act: null })],
    ["whose user is two lines", () => forge({ exp: inAMinute(), sub: "user:x\ny" })],
    ["by HS512", () => forge({ exp: inAMinute() }, SECRET, { alg: "HS512" })],
    ["that isn't one", async () => "abc"],
    ["that is too long", () => forge({ exp: inAMinute(), scopes: ["x".repeat(8 * 1024)] })],
    [
      "without a signature (alg none)",
      async () => {
        const [header = "", payload = ""] = (await forge({ exp: inAMinute() })).split(".");
        const none = { ...JSON.parse(Buffer.from(header, "base64url").toString()), alg: "none" };
        return `${Buffer.from(JSON.stringify(none)).toString("base64url")}.${payload}.`;
      },
    ],
    [
      "that was changed",
      async () => {
        const [header, , signature] = (await forge({ exp: inAMinute() })).split(".");
        const payload = { iss: "polis", sub: "user:someone-else", exp: inAMinute() };
        return `${header}.${Buffer.from(JSON.stringify(payload)).toString("base64url")}.${signature}`;
      },
    ],
  ])("%s is refused", async (_, make) => {
    await expect(callerTokens({ secrets: secretsOf([SECRET]) }).verify(await make())).rejects.toMatchObject(refused);
  });

  test("of the same claims and key is good, so that what is refused above is refused for its reason", async () => {
    const tokens = callerTokens({ secrets: secretsOf([SECRET]) });
    expect(await tokens.verify(await forge({ exp: inAMinute() }))).toMatchObject({ kind: "user", userId: "x", roles: [] });
  });

  test("can't be made from a short secret", () => {
    expect(() => callerTokens({ secrets: secretsOf(["short"]) })).toThrow("32");
  });
});
