import { createHmac } from "node:crypto";
import { seal, unseal } from "#platform/access/seal.ts";
import type { Secrets } from "#platform/access/secrets.ts";
import { resource } from "#platform/resource.ts";
import { meantCode } from "./recovery-codes.ts";

/** What lies in rows of second factors is of no use to who reads them without the deployment's secret. */
export type SecondFactorSecrets = {
  seal(userId: string, secret: Uint8Array): Uint8Array;
  /** Throws where it was sealed under a secret that counts no more. */
  open(userId: string, sealed: Uint8Array): Uint8Array;
  /** A recovery code as it is kept, and as it may have been kept under each secret that still counts. */
  hashesOf(userId: string, code: string): readonly [string, ...string[]];
};

export const secondFactorSecrets = resource("auth.second-factor-secrets", { open: ({ secrets }) => openSecrets(secrets) });

function openSecrets(secrets: Secrets): SecondFactorSecrets {
  const sealing = secrets.keys("polis auth second factor v1");
  const [codeKey, ...codeKeys] = secrets.keys("polis auth recovery code v1");
  const hashOf = (key: Uint8Array, userId: string, code: string): string =>
    createHmac("sha256", key)
      .update(`${userId} ${meantCode(code)}`)
      .digest("base64url");
  return {
    seal: (userId, secret) => seal(sealing, secret, userId),
    open(userId, sealed) {
      const secret = unseal(sealing, sealed, userId);
      if (secret === undefined)
        throw new Error(`the second factor of user ${userId} can't be opened, since POLIS_SECRET is another: an admin may reset it`);
      return secret;
    },
    hashesOf: (userId, code) => [hashOf(codeKey, userId, code), ...codeKeys.map((key) => hashOf(key, userId, code))],
  };
}
