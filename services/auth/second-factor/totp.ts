import { HOTP, Secret, TOTP } from "otpauth";
import { equalSecrets } from "#platform/access/equal-secrets.ts";

const ISSUER = "Polis";
/** 160 bits, as RFC 4226 recommends. */
const SECRET_BYTES = 20;
/** Clocks of phones go wrong, and people type slowly: the step before and the one after will do. */
const STEPS_APART = [-1, 0, 1];

export const makeSecret = (): Uint8Array => new Secret({ size: SECRET_BYTES }).bytes;

export const toBase32 = (secret: Uint8Array): string => secretOf(secret).base32;

/** What an authenticator app reads from a QR code. Six digits, 30 s and SHA-1: what every app knows. */
export const toUri = (secret: Uint8Array, label: string): string =>
  new TOTP({ issuer: ISSUER, label, secret: secretOf(secret) }).toString();

/** The code of a time step (RFC 6238). */
export const codeOfStep = (secret: Uint8Array, step: number): string => HOTP.generate({ secret: secretOf(secret), counter: step });

export const stepAt = (nowMs: number): number => TOTP.counter({ timestamp: nowMs });

/**
 * The time step of which it is the code, among those that are near, and after `lastStep`: what was used, or is older than that, isn't
 * good any more. All are compared, so that the time doesn't tell which it was.
 */
export function matchingStep(secret: Uint8Array, code: string, nowMs: number, lastStep: number): number | undefined {
  const near = STEPS_APART.map((apart) => stepAt(nowMs) + apart);
  return near.filter((step) => equalSecrets(codeOfStep(secret, step), code)).find((step) => step > lastStep);
}

/** A copy: bytes of a row may lie in a buffer with others. */
const secretOf = (bytes: Uint8Array): Secret => new Secret({ buffer: Uint8Array.from(bytes).buffer });
