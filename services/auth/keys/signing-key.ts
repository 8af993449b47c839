import { createPrivateKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { seal, unseal } from "#platform/access/seal.ts";
import type { Keys, Secrets } from "#platform/access/secrets.ts";
import { uuidv7 } from "#platform/ids.ts";
import type { SigningKeyRow } from "../tables.ts";

/** How long an access token is good: what it says of its user may be so old for whoever asks nobody (RFC 9068). */
export const ACCESS_MS = 10 * 60_000;
/** Who verifies tokens, and they alone, take them. */
export const AUDIENCE = "polis";

/** What a key is sealed under in its row. */
export const sealingKeys = (secrets: Secrets): Keys => secrets.keys("polis auth signing key v1");

/** A key that is open to sign with. */
export type OpenKey = { readonly id: string; readonly key: KeyObject; readonly publicJwk: object; readonly signsFromMs: number };

/** The claims of an access token beside those that say when, and for whom, it was made. */
export type Claims = {
  readonly iss: string;
  readonly sub: string;
  /** The session. */
  readonly sid: string;
  /** The user's token version: one of before is refused. */
  readonly ver: number;
  readonly roles: readonly string[];
  /** Whether a second factor was shown. */
  readonly mfa: boolean;
};

export function makeKey(sealing: Keys, nowMs: number, signsFromMs: number): SigningKeyRow {
  const id = uuidv7(nowMs);
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const pkcs8 = privateKey.export({ format: "der", type: "pkcs8" });
  return {
    id,
    privateKey: seal(sealing, pkcs8, id),
    publicJwk: JSON.stringify({ ...publicKey.export({ format: "jwk" }), kid: id, alg: "ES256", use: "sig" }),
    createdAt: timestampFromMs(nowMs),
    signsFrom: timestampFromMs(signsFromMs),
  };
}

/** Undefined for one that was sealed under a secret that counts no more: nor do its tokens. */
export function openKey({ id, privateKey, publicJwk, signsFrom }: SigningKeyRow, sealing: Keys): OpenKey | undefined {
  const pkcs8 = unseal(sealing, privateKey, id);
  if (pkcs8 === undefined) return undefined;
  const key = createPrivateKey({ key: Buffer.from(pkcs8), format: "der", type: "pkcs8" });
  return { id, key, publicJwk: JSON.parse(publicJwk), signsFromMs: timestampMs(signsFrom) };
}

/** An access token: a JWT (ES256, RFC 9068). jose signs asynchronously alone, and a batch doesn't wait. */
export function signToken({ id, key }: OpenKey, claims: Claims, nowMs: number): string {
  const iat = Math.floor(nowMs / 1000);
  const header = encoded({ alg: "ES256", typ: "at+jwt", kid: id });
  const payload = encoded({ aud: AUDIENCE, ...claims, iat, exp: iat + ACCESS_MS / 1000, jti: uuidv7(nowMs) });
  const signature = sign("sha256", Buffer.from(`${header}.${payload}`), { key, dsaEncoding: "ieee-p1363" });
  return `${header}.${payload}.${signature.toString("base64url")}`;
}

const encoded = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
