import { ZxcvbnFactory } from "@zxcvbn-ts/core";
import { adjacencyGraphs, dictionary as common } from "@zxcvbn-ts/language-common";
import { dictionary as english } from "@zxcvbn-ts/language-en";
import { type Rejection, reject } from "#platform/rejection.ts";

/** Guesses of a tenth of a second in the worst case are spent on what stands in front; what comes behind only makes it stronger. */
const LOOKED_AT_MAX = 64;
/** Of 0 to 4: against who has the hash of the password, and tries fast (zxcvbn). */
const SCORE_MIN = 3;

let estimator: ZxcvbnFactory | undefined;

/**
 * Why a password won't do: it is among those that many have, or is put together from such, from words, names, keys beside each other,
 * dates, or from `own`, which an attacker knows (NIST SP 800-63B, 5.1.1.2). Length is the contract's affair.
 */
export function weakness(password: string, own: readonly string[]): Rejection | undefined {
  // Made on first use: its dictionaries take a tenth of a second.
  estimator ??= new ZxcvbnFactory({ dictionary: { ...common, ...english }, graphs: adjacencyGraphs });
  const parts = own.flatMap((text) => [text, ...text.split(/[^\p{L}\p{N}]+/u)]).filter(({ length }) => length > 2);
  const { score } = estimator.check(password.slice(0, LOOKED_AT_MAX), parts);
  return score >= SCORE_MIN ? undefined : reject("weak_password", "The password is too easy to guess: take one of several unusual words.");
}
