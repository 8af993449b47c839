import { randomUUID } from "node:crypto";
import { secretsOf } from "#platform/access/secrets.ts";
import { publicUrl } from "#platform/config/public-url.ts";
import { signingKeys } from "../tables.ts";
import { openKey, sealingKeys, signToken } from "./signing-key.ts";

/** What a token of a test may say of its user. */
export type SaidOfUser = {
  readonly roles?: readonly string[];
  readonly secondFactor?: boolean;
  readonly sessionId?: string;
  readonly version?: number;
};

/**
 * Access tokens for any user, as auth signs them: with its newest key, which is read from its database. For tests of what comes after a
 * sign-in, and for loads that aren't about it.
 */
export async function accessTokens(
  query: (text: string) => Promise<readonly Record<string, unknown>[]>,
  secret: string,
): Promise<(userId: string, said?: SaidOfUser) => string> {
  const [raw] = await query("SELECT * FROM signing_keys ORDER BY signs_from DESC LIMIT 1");
  const key = raw && openKey(signingKeys.fromRow(raw), sealingKeys(secretsOf([secret])));
  if (key === undefined) throw new Error("auth has no key that this secret opens");
  return (userId, { roles = [], secondFactor = false, sessionId = randomUUID(), version = 1 } = {}) =>
    signToken(key, { iss: publicUrl.default, sub: userId, sid: sessionId, ver: version, roles, mfa: secondFactor }, Date.now());
}
