import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { Keys } from "#platform/access/secrets.ts";

// AES-256-GCM: nonce, tag, then what is sealed.
const ALGORITHM = "aes-256-gcm";
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/**
 * Seals bytes so that only who has the key reads them, and nobody changes them unseen.
 *
 * @param about what they are of: they open under the same name alone, so that one row's aren't put into another
 */
export function seal([key]: Keys, bytes: Uint8Array, about: string): Uint8Array {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv(ALGORITHM, key, nonce).setAAD(Buffer.from(about));
  const sealed = Buffer.concat([cipher.update(bytes), cipher.final()]);
  return Buffer.concat([nonce, cipher.getAuthTag(), sealed]);
}

/** What was sealed under one of the keys; undefined where none of them opens it. */
export function unseal(keys: Keys, sealed: Uint8Array, about: string): Uint8Array | undefined {
  const whole = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength);
  if (whole.length < NONCE_BYTES + TAG_BYTES) return undefined;
  for (const key of keys) {
    const decipher = createDecipheriv(ALGORITHM, key, whole.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
    decipher.setAAD(Buffer.from(about)).setAuthTag(whole.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
    try {
      return Buffer.concat([decipher.update(whole.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]);
    } catch {
      // Another key's, or changed.
    }
  }
  return undefined;
}
