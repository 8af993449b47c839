import { createHmac, hkdfSync } from "node:crypto";
import { seal, unseal } from "#platform/access/seal.ts";
import type { Secrets } from "#platform/access/secrets.ts";
import { resource } from "#platform/resource.ts";
import { meantCode } from "./recovery-codes.ts";

/** What lies in rows of second factors is of no use to who reads them without the deployment's secret. */
export type SecondFactorSecrets = {
  /** The name of the key that seals. */
  readonly keyName: string;
  /** Those of the keys that open as well, for the deployment's secret is being changed. */
  readonly otherKeyNames: readonly string[];
  seal(userId: string, secret: Uint8Array): Uint8Array;
  /** Throws where it was sealed under a secret that counts no more. */
  open(userId: string, sealed: Uint8Array): Uint8Array;
};

export const secondFactorSecrets = resource("auth.second-factor-secrets", { open: ({ secrets }) => openSecrets(secrets) });

export function openSecrets(secrets: Secrets): SecondFactorSecrets {
  const sealing = secrets.keys("polis auth second factor v1");
  const [keyName = "", ...otherKeyNames] = sealing.map((key) => createHmac("sha256", key).update("name").digest("base64url").slice(0, 11));
  return {
    keyName,
    otherKeyNames,
    seal: (userId, secret) => seal(sealing, secret, userId),
    open(userId, sealed) {
      const secret = unseal(sealing, sealed, userId);
      if (secret === undefined)
        throw new Error(`the second factor of user ${userId} can't be opened, since POLIS_SECRET is another: an admin may reset it`);
      return secret;
    },
  };
}

/** A recovery code as it is kept: under a key of the app's secret, which is sealed, and so good for as long as that is. */
export function hashOfRecoveryCode(secret: Uint8Array, code: string): string {
  const key = new Uint8Array(hkdfSync("sha256", secret, "", "polis auth recovery code v1", 32));
  return createHmac("sha256", key).update(meantCode(code)).digest("base64url");
}
