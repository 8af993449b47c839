import { sign } from "node:crypto";
import type { ClientAuth } from "openid-client";

const LIFE_S = 300;

/** Apple's client secret: a token that the operator's key signs, made for each request (developer.apple.com, "Creating a client secret"). */
export function appleSecret(
  { clientId, teamId, keyId, privateKey }: Record<"clientId" | "teamId" | "keyId" | "privateKey", string>,
  nowMs: number,
): string {
  const now = Math.floor(nowMs / 1000);
  const claims = { iss: teamId, iat: now, exp: now + LIFE_S, aud: "https://appleid.apple.com", sub: clientId };
  const signed = [{ alg: "ES256", kid: keyId }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  return `${signed}.${sign("sha256", Buffer.from(signed), { key: privateKey, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
}

export const appleAuth =
  (facts: Parameters<typeof appleSecret>[0]): ClientAuth =>
  (_, { client_id }, body) => {
    body.set("client_id", client_id);
    body.set("client_secret", appleSecret(facts, Date.now()));
  };
