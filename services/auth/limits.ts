import { hash } from "node:crypto";
import { countedAs } from "#platform/edge/networks.ts";
import { type LimitOf, limit } from "#platform/kv/kinds.ts";
import type { Kv } from "#platform/kv/kv.ts";
import { type Rejection, reject } from "#platform/rejection.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Origin } from "#platform/rpc/origin.ts";
import type { Contact } from "./users/contact.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const FAILURES_MAX = 3_000;
const closed = { whenAway: "closed" } as const;

// What guards codes and passwords: exact over all processes, and where the store isn't reached, nobody gets through.

/** Tries of an account: the more there are, the longer it takes to the next. Somebody who is in the wrong waits minutes, then hours. */
const accountTries = [
  limit("auth.account-tries-minute", { limit: 5, windowMs: MINUTE_MS, ...closed }),
  limit("auth.account-tries-hour", { limit: 20, windowMs: HOUR_MS, ...closed }),
  limit("auth.account-tries-day", { limit: 60, windowMs: DAY_MS, ...closed }),
];
/** Tries from an address, over all accounts: one password for many accounts is guessed as well. */
const addressTries = limit("auth.address-tries", { limit: 300, windowMs: HOUR_MS, ...closed });
/** What went wrong over all accounts and addresses: an attack of many machines slows down, and is seen. */
const failures = limit("auth.failures", { limit: FAILURES_MAX, windowMs: MINUTE_MS, ...closed });
/** Tries of one code, of which there are a million. */
const codeTries = limit("auth.code-tries", { limit: 5, windowMs: HOUR_MS, ...closed });
/** Tries of all codes that went to an address of mail or a phone: who asks for many codes would guess one of them in the end. */
const contactCodeTries = limit("auth.contact-code-tries", { limit: 30, windowMs: DAY_MS, ...closed });
/** Codes to an address of mail or a phone, and for who asks from an IP address. */
const codesToContact = [
  limit("auth.codes-to-contact-minute", { limit: 2, windowMs: MINUTE_MS, ...closed }),
  limit("auth.codes-to-contact-day", { limit: 20, windowMs: DAY_MS, ...closed }),
];
const codesFromAddress = limit("auth.codes-from-address", { limit: 60, windowMs: HOUR_MS, ...closed });

/** Passwords that are looked at, for who asks from an IP address: one takes a tenth of a second of a processor. */
const strengthChecks = limit("auth.strength-checks", { limit: 120, windowMs: HOUR_MS, ...closed });

/** Tries of an account's second factor, of which three codes of a million are good at a time: who guesses has the password already. */
const secondFactorTries = [
  limit("auth.second-factor-tries-minute", { limit: 5, windowMs: MINUTE_MS, ...closed }),
  limit("auth.second-factor-tries-hour", { limit: 10, windowMs: HOUR_MS, ...closed }),
  limit("auth.second-factor-tries-day", { limit: 20, windowMs: DAY_MS, ...closed }),
];

export const limits = [
  ...accountTries,
  addressTries,
  failures,
  codeTries,
  contactCodeTries,
  ...codesToContact,
  codesFromAddress,
  strengthChecks,
  ...secondFactorTries,
];

const ALL = "all";
/** Without an origin whoever calls is a service or a test of ours. */
const addressOf = (origin: Origin | undefined): string =>
  origin === undefined || origin.address === "" ? "inside" : countedAs(origin.address);
/** Keys of the store are shown to operators. */
const nameOf = (contact: Contact): string => hash("sha256", `${contact.case} ${contact.value}`, "base64url");

type Take = { readonly of: LimitOf; readonly key: string };

/** Takes one of each, in order, up to the first that is used up. Undefined where all were taken; else when it may be otherwise. */
async function take(takes: readonly Take[]): Promise<number | undefined> {
  for (const { of, key } of takes) {
    const { isTaken, isAway, resetMs } = await of.take(key);
    if (isAway) throw new CallError("UNAVAILABLE", "unavailable", "Tries can't be counted now; try again later.", { retryAfterMs: 1_000 });
    if (!isTaken) return resetMs;
  }
  return undefined;
}

const tooMany = (code: string, retryAfterMs: number | undefined): Rejection | undefined =>
  retryAfterMs === undefined ? undefined : reject(code, undefined, { retryAfterMs });

/** Takes a try to sign in; a rejection where there is none left. Counted before the password is looked at, so that many at once get no more. */
export async function takeSignInTry(kv: Kv, contact: Contact, origin: Origin | undefined): Promise<Rejection | undefined> {
  const { used, resetMs } = await kv.of(failures).look(ALL);
  if (used >= FAILURES_MAX) return tooMany("too_many_tries", resetMs);
  const account = accountTries.map((kind) => ({ of: kv.of(kind), key: nameOf(contact) }));
  return tooMany("too_many_tries", await take([{ of: kv.of(addressTries), key: addressOf(origin) }, ...account]));
}

/** The account's owner was there: its tries are forgotten. */
export async function forgetSignInTries(kv: Kv, contact: Contact): Promise<void> {
  await Promise.all(accountTries.map((kind) => kv.of(kind).clear(nameOf(contact))));
}

export const noteFailure = async (kv: Kv): Promise<void> => void (await kv.of(failures).take(ALL));

/** Takes one of the passwords that may be looked at. */
export const takeStrengthCheck = async (kv: Kv, origin: Origin | undefined): Promise<Rejection | undefined> =>
  tooMany("too_many_tries", await take([{ of: kv.of(strengthChecks), key: addressOf(origin) }]));

/** Takes a try to answer a challenge, whose code went to this contact. */
export async function takeCodeTry(kv: Kv, challengeId: string, contact: Contact | undefined): Promise<Rejection | undefined> {
  const ofContact = contact === undefined ? [] : [{ of: kv.of(contactCodeTries), key: nameOf(contact) }];
  return tooMany("too_many_tries", await take([{ of: kv.of(codeTries), key: challengeId }, ...ofContact]));
}

/** Who has a code that went there is its owner. */
export const forgetCodeTries = (kv: Kv, contact: Contact): Promise<void> => kv.of(contactCodeTries).clear(nameOf(contact));

/** Takes one of the codes that may be sent to somebody. */
export async function takeCode(kv: Kv, contact: Contact, origin: Origin | undefined): Promise<Rejection | undefined> {
  const contacts = codesToContact.map((kind) => ({ of: kv.of(kind), key: nameOf(contact) }));
  return tooMany("too_many_codes", await take([{ of: kv.of(codesFromAddress), key: addressOf(origin) }, ...contacts]));
}

/**
 * Takes a try to show a second factor. A challenge alone would be no bound, since who has the password gets as many as they like; so it
 * is the account that is locked, for ever longer.
 */
export async function takeSecondFactorTry(
  kv: Kv,
  { userId, challengeId }: { readonly userId: string | undefined; readonly challengeId?: string },
  origin: Origin | undefined,
): Promise<Rejection | undefined> {
  const { used, resetMs } = await kv.of(failures).look(ALL);
  if (used >= FAILURES_MAX) return tooMany("too_many_tries", resetMs);
  const challenge = challengeId === undefined ? [] : [{ of: kv.of(codeTries), key: challengeId }];
  const account = userId === undefined ? [] : secondFactorTries.map((kind) => ({ of: kv.of(kind), key: userId }));
  return tooMany("too_many_tries", await take([{ of: kv.of(addressTries), key: addressOf(origin) }, ...challenge, ...account]));
}

/** The account's owner was there. */
export async function forgetSecondFactorTries(kv: Kv, userId: string): Promise<void> {
  await Promise.all(secondFactorTries.map((kind) => kv.of(kind).clear(userId)));
}
