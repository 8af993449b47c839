import { type Timestamp, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { equalSecrets } from "#platform/access/equal-secrets.ts";
import type { SecondFactorRow } from "../tables.ts";
import { hashOfRecoveryCode, type SecondFactorSecrets } from "./second-factor-secrets.ts";
import { matchingStep } from "./totp.ts";

const SETUP_MS = 15 * 60_000;

const none = (userId: string): SecondFactorRow => ({
  userId,
  totpSecret: undefined,
  pendingSecret: undefined,
  pendingUntil: undefined,
  sealedBy: "",
  lastStep: 0,
  recoveryCodes: "",
  onSince: undefined,
});

/** One that is asked for. */
export type FactorOn = SecondFactorRow & { readonly totpSecret: Uint8Array };

export const isOn = (factor: SecondFactorRow | undefined): factor is FactorOn => factor?.totpSecret !== undefined;

export const recoveryCodesLeft = ({ recoveryCodes }: SecondFactorRow): number => codesIn(recoveryCodes).length;

/** With a secret that waits to be confirmed; another that did is forgotten. */
export const withSetup = (secrets: SecondFactorSecrets, userId: string, secret: Uint8Array, now: Timestamp) => ({
  ...none(userId),
  pendingSecret: secrets.seal(userId, secret),
  sealedBy: secrets.keyName,
  pendingUntil: timestampFromMs(timestampMs(now) + SETUP_MS),
});

/** The secret that waits to be confirmed, still sealed. */
export const setupOf = (factor: SecondFactorRow | undefined, now: Timestamp): Uint8Array | undefined =>
  factor?.pendingUntil !== undefined && timestampMs(factor.pendingUntil) > timestampMs(now) ? factor.pendingSecret : undefined;

/** Turned on by a code of the secret that waits, which is used by that; undefined where the code isn't one. */
export function confirmed(secrets: SecondFactorSecrets, factor: SecondFactorRow, code: string, now: Timestamp): FactorOn | undefined {
  const setup = setupOf(factor, now);
  if (setup === undefined) return undefined;
  const step = matchingStep(secrets.open(factor.userId, setup), code, timestampMs(now), 0);
  return step === undefined
    ? undefined
    : { ...none(factor.userId), totpSecret: setup, sealedBy: factor.sealedBy, lastStep: step, onSince: now };
}

export const turnedOff = ({ userId }: SecondFactorRow): SecondFactorRow => none(userId);

/** The same under the key that seals now. */
export const resealed = (secrets: SecondFactorSecrets, factor: SecondFactorRow): SecondFactorRow => {
  const again = (sealed: Uint8Array | undefined) => sealed && secrets.seal(factor.userId, secrets.open(factor.userId, sealed));
  const { totpSecret, pendingSecret } = factor;
  return { ...factor, totpSecret: again(totpSecret), pendingSecret: again(pendingSecret), sealedBy: secrets.keyName };
};

/** With these recovery codes, and none of those of before. */
export function withRecoveryCodes(secrets: SecondFactorSecrets, factor: FactorOn, codes: readonly string[]): FactorOn {
  const secret = secrets.open(factor.userId, factor.totpSecret);
  return { ...factor, recoveryCodes: codes.map((code) => hashOfRecoveryCode(secret, code)).join(" ") };
}

/** What becomes of a second factor by a code that was good; the code isn't any more. */
export type Accepted = { readonly factor: SecondFactorRow; readonly isRecoveryCode: boolean };

/** Takes a code of the app or a recovery code; undefined where it is neither, or was used. */
export function accept(secrets: SecondFactorSecrets, factor: SecondFactorRow, code: string, now: Timestamp): Accepted | undefined {
  if (!isOn(factor)) return undefined;
  const secret = secrets.open(factor.userId, factor.totpSecret);
  const step = matchingStep(secret, code, timestampMs(now), factor.lastStep);
  if (step !== undefined) return { factor: { ...factor, lastStep: step }, isRecoveryCode: false };
  const hash = hashOfRecoveryCode(secret, code);
  const kept = codesIn(factor.recoveryCodes);
  const left = kept.filter((one) => !equalSecrets(one, hash));
  return left.length === kept.length ? undefined : { factor: { ...factor, recoveryCodes: left.join(" ") }, isRecoveryCode: true };
}

const codesIn = (text: string): string[] => (text === "" ? [] : text.split(" "));
