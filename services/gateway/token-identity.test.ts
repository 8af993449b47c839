import { createHmac, generateKeyPairSync, type KeyObject, randomUUID, sign } from "node:crypto";
import { createLocalJWKSet } from "jose";
import { expect, test } from "vitest";
import { nobody } from "#platform/access/caller.ts";
import type { CallError } from "#platform/rpc/call-error.ts";
import type { HeardTokens, RevocableToken } from "./heard-tokens.ts";
import { tokenIdentity } from "./token-identity.ts";

const NOW_MS = 1_800_000_000_000;
const NOW_S = NOW_MS / 1000;
const ours = generateKeyPairSync("ec", { namedCurve: "P-256" });
const theirs = generateKeyPairSync("ec", { namedCurve: "P-256" });
const publicJwk = { ...ours.publicKey.export({ format: "jwk" }), kid: "ours", alg: "ES256", use: "sig" };
const theirJwk = { ...theirs.publicKey.export({ format: "jwk" }), kid: "theirs", alg: "ES256" };

const encoded = (value: unknown): string => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
const HEADER = { alg: "ES256", typ: "at+jwt", kid: "ours" };
const sub = randomUUID();
const CLAIMS = {
  iss: "https://polis.example",
  aud: "polis",
  sub,
  sid: randomUUID(),
  ver: 3,
  roles: ["support"],
  mfa: true,
  iat: NOW_S,
  exp: NOW_S + 600,
};
const signed = (header: object, claims: object | string, key: KeyObject = ours.privateKey): string => {
  const text = `${encoded(header)}.${encoded(claims)}`;
  return `${text}.${sign("sha256", Buffer.from(text), { key, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
};
const GOOD = signed(HEADER, CLAIMS);

function open({ nowMs = NOW_MS, isFresh = true, isRevoked = (_: RevocableToken): boolean => false, isHeard = true } = {}) {
  const verification = { issuer: CLAIMS.iss, audience: "polis", keys: createLocalJWKSet({ keys: [publicJwk] }) };
  const tokens: HeardTokens = {
    verification: () => (isHeard ? verification : undefined),
    isRevoked,
    isFresh: () => isFresh,
    heard: async () => undefined,
    stop: async () => undefined,
  };
  const clock = { nowMs };
  const identity = tokenIdentity(tokens, { find: () => Promise.reject(new Error("no key is asked for")) }, () => clock.nowMs);
  const identify = async (authorization: string, { isSensitive = false, isPublic = false } = {}) => {
    try {
      return await identity.identify({ authorization }, { isSensitive, isPublic });
    } catch (error) {
      return (error as CallError).code;
    }
  };
  return { identify, clock };
}

test("an access token says who calls, with which roles and session", async () => {
  const caller = { kind: "user", userId: sub, roles: ["user", "support"], scopes: [], secondFactor: true, sessionId: CLAIMS.sid };
  expect(await open().identify(`Bearer ${GOOD}`)).toEqual(caller);
  expect(await open().identify(`bearer ${GOOD}`)).toEqual(caller);
});

const [head = "", body = "", seal = ""] = GOOD.split(".");
const byMac = (secret: string | Buffer): string => {
  const text = `${encoded({ ...HEADER, alg: "HS256" })}.${body}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
};
const der = sign("sha256", Buffer.from(`${head}.${body}`), ours.privateKey).toString("base64url");

test.each([
  ["signed by another key under our key's name", signed(HEADER, CLAIMS, theirs.privateKey)],
  ["that brings its own key along", signed({ ...HEADER, jwk: theirJwk }, CLAIMS, theirs.privateKey)],
  [
    "that names a place of keys",
    signed({ ...HEADER, kid: "theirs", jku: "http://127.0.0.1:1/keys", x5u: "http://127.0.0.1:1/" }, CLAIMS, theirs.privateKey),
  ],
  ["of a key that nobody knows", signed({ ...HEADER, kid: "../../dev/null" }, CLAIMS)],
  ["without a signature", `${encoded({ alg: "none", typ: "at+jwt" })}.${body}.`],
  ["whose signature was left out", `${head}.${body}.`],
  ["signed with our public key as a secret", byMac(JSON.stringify(publicJwk))],
  ["signed with its PEM as a secret", byMac(ours.publicKey.export({ format: "pem", type: "spki" }) as string)],
  ["whose signature is of another form", `${head}.${body}.${der}`],
  ["whose signature is nothing but zeros", `${head}.${body}.${Buffer.alloc(64).toString("base64url")}`],
  ["of which more is asked than we know", signed({ ...HEADER, crit: ["b64"], b64: false }, CLAIMS)],
  ["of another kind", signed({ ...HEADER, typ: "JWT" }, CLAIMS)],
  ["of another issuer", signed(HEADER, { ...CLAIMS, iss: "https://elsewhere.example" })],
  ["for another audience", signed(HEADER, { ...CLAIMS, aud: "elsewhere" })],
  ["without a session", signed(HEADER, { ...CLAIMS, sid: undefined })],
  ["without an end", signed(HEADER, { ...CLAIMS, exp: undefined })],
  ["whose end is a text", signed(HEADER, { ...CLAIMS, exp: "9999999999" })],
  ["that isn't an object", signed(HEADER, "[]")],
  ["with another's claims", `${head}.${encoded({ ...CLAIMS, sub: randomUUID() })}.${seal}`],
  ["that is longer than ours are", signed(HEADER, { ...CLAIMS, more: "x".repeat(5_000) })],
  ["that is two", `${GOOD}, Bearer ${GOOD}`],
  ["that isn't one", "x"],
])("a token %s is none of ours", async (_, token) => {
  expect(await open().identify(`Bearer ${token}`)).toBe("invalid_token");
});

test("a token is over five seconds after it says so, also where it was verified before", async () => {
  const { identify, clock } = open();
  clock.nowMs = NOW_MS + 604_000;
  expect(await identify(`Bearer ${GOOD}`)).toMatchObject({ userId: sub });
  clock.nowMs = NOW_MS + 605_000;
  expect(await identify(`Bearer ${GOOD}`)).toBe("token_expired");
  expect(await open({ nowMs: NOW_MS + 606_000 }).identify(`Bearer ${GOOD}`)).toBe("token_expired");
});

test("a token that was revoked is refused, though it was verified before", async () => {
  let versionMin = 3;
  const { identify } = open({ isRevoked: ({ version }) => version < versionMin });
  expect(await identify(`Bearer ${GOOD}`)).toMatchObject({ userId: sub });
  versionMin = 4;
  expect(await identify(`Bearer ${GOOD}`)).toBe("token_revoked");
});

test("who can't know who was shut out lets nobody at what is sensitive, and before keys were heard nobody at all", async () => {
  expect(await open({ isFresh: false }).identify(`Bearer ${GOOD}`, { isSensitive: true })).toBe("unavailable");
  expect(await open({ isFresh: false }).identify(`Bearer ${GOOD}`)).toMatchObject({ userId: sub });
  expect(await open({ isHeard: false }).identify(`Bearer ${GOOD}`)).toBe("unavailable");
});

test("where everybody may call, a token that isn't good makes the caller nobody", async () => {
  expect(await open().identify("Bearer x", { isPublic: true })).toBe(nobody);
  expect(await open().identify(`Bearer ${signed(HEADER, CLAIMS, theirs.privateKey)}`, { isPublic: true })).toBe(nobody);
});
