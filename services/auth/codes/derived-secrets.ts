import { createHmac } from "node:crypto";
import { equalSecrets } from "#platform/access/equal-secrets.ts";
import type { Keys, Secrets } from "#platform/access/secrets.ts";
import { uuidBytes, uuidOf } from "#platform/ids.ts";
import { resource } from "#platform/resource.ts";

const CODE_DIGITS = 6;
/** 16 bytes of the session, 4 of the generation, 32 of the seal. */
const TOKEN_BYTES = 52;
const NAMED_BYTES = 20;

export type NamedSession = { readonly sessionId: string; readonly generation: number };

/** Secrets that users hold, derived from what they are for by the secret of the deployment: none lies in a row, and who reads the rows has none. */
export type DerivedSecrets = {
  /** The code that answers a challenge: six digits. */
  codeOf(challengeId: string): string;
  isCodeOf(challengeId: string, code: string): boolean;
  refreshToken(session: NamedSession): string;
  /** What a refresh token names; undefined for one that isn't ours. */
  readRefreshToken(token: string): NamedSession | undefined;
};

export const derivedSecrets = resource("auth.derived-secrets", { open: ({ secrets }) => deriveSecrets(secrets) });

export function deriveSecrets(secrets: Secrets): DerivedSecrets {
  const codeKeys = secrets.keys("polis auth code v1");
  const tokenKeys = secrets.keys("polis auth refresh token v1");
  return {
    codeOf: (challengeId) => code(codeKeys[0], challengeId),
    isCodeOf: (challengeId, given) => any(codeKeys, (key) => equalSecrets(code(key, challengeId), given)),
    refreshToken(session) {
      const named = bytesOf(session);
      return Buffer.concat([named, sealOf(tokenKeys[0], named)]).toString("base64url");
    },
    readRefreshToken(token) {
      const bytes = Buffer.from(token, "base64url");
      // Another text of the same bytes isn't the same token.
      if (bytes.length !== TOKEN_BYTES || bytes.toString("base64url") !== token) return undefined;
      const named = bytes.subarray(0, NAMED_BYTES);
      if (!any(tokenKeys, (key) => equalSecrets(sealOf(key, named), bytes.subarray(NAMED_BYTES)))) return undefined;
      return { sessionId: uuidOf(named.subarray(0, 16)), generation: named.readUInt32BE(16) };
    },
  };
}

/** The first six bytes are far more than a million, so that no code is likelier than another by more than one in 10^8. */
const code = (key: Uint8Array, challengeId: string): string =>
  String(createHmac("sha256", key).update(challengeId).digest().readUIntBE(0, 6) % 10 ** CODE_DIGITS).padStart(CODE_DIGITS, "0");

const sealOf = (key: Uint8Array, named: Uint8Array): Buffer => createHmac("sha256", key).update(named).digest();

function bytesOf({ sessionId, generation }: NamedSession): Buffer {
  const bytes = Buffer.alloc(NAMED_BYTES);
  uuidBytes(sessionId).copy(bytes);
  bytes.writeUInt32BE(generation, 16);
  return bytes;
}

/** All are looked at: the time doesn't tell which it was. */
const any = (keys: Keys, isTrue: (key: Uint8Array) => boolean): boolean => keys.map(isTrue).includes(true);
