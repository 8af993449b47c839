import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Challenge, ChallengeSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { find } from "#platform/reads/query.ts";
import { type Rejection, reject } from "#platform/rejection.ts";
import type { PrepareContext, Tx } from "#platform/writes/definitions.ts";
import { forgetCodeTries, takeCodeTry } from "../limits.ts";
import { type ChallengeRow, challenges, type Purpose } from "../tables.ts";
import { contactIn } from "../users/contact.ts";
import { derivedSecrets } from "./derived-secrets.ts";

const LIFE_MINUTES = 15;

/** How long a code is good, as letters tell it. */
export const lifeMinutes = String(LIFE_MINUTES);

/** Makes a challenge: whoever has its code may answer it, once. */
export function pose(
  tx: Tx,
  facts: Omit<ChallengeRow, "passwordHash" | "sessionEpoch" | "createdAt" | "expiresAt" | "usedAt"> & {
    readonly passwordHash?: string;
    readonly sessionEpoch?: number;
    readonly now: Timestamp;
  },
): ChallengeRow {
  const { now, passwordHash, sessionEpoch, ...known } = facts;
  const expiresAt = timestampFromMs(timestampMs(now) + LIFE_MINUTES * 60_000);
  const row: ChallengeRow = { ...known, passwordHash, sessionEpoch, createdAt: now, expiresAt, usedAt: undefined };
  tx.insert(challenges, row);
  return row;
}

export const toChallenge = ({ id, expiresAt }: ChallengeRow): Challenge => create(ChallengeSchema, { challengeId: id, expiresAt });

/** What is known of an answer before the challenge is locked: a try was taken for it, and whether the code is right. */
export type Tried = { readonly refused: Rejection | undefined; readonly isRight: boolean };

/**
 * Takes a try, of the challenge's and of the contact's to whom its code went: more challenges are no more guesses. What comes at once is
 * counted all the same, and a right code is as good as none once tries are used up. The challenge is only there for who has its code.
 */
export async function tryCode(
  { kv, use, sql }: Pick<PrepareContext, "kv" | "use" | "sql">,
  { challengeId, code }: { readonly challengeId: string; readonly code: string },
): Promise<Tried & { readonly challenge: ChallengeRow | undefined }> {
  const challenge = await find(sql, challenges.row(challengeId));
  const contact = challenge && contactIn(challenge);
  const refused = await takeCodeTry(kv, challengeId, contact);
  const isRight = refused === undefined && use(derivedSecrets).isCodeOf(challengeId, code);
  if (isRight && contact !== undefined) await forgetCodeTries(kv, contact);
  return { refused, isRight, challenge: isRight ? challenge : undefined };
}

/** Neither used nor over. */
export const isOpen = ({ usedAt, expiresAt }: ChallengeRow, now: Timestamp): boolean =>
  usedAt === undefined && timestampMs(expiresAt) > timestampMs(now);

/** Uses a challenge that the item has locked; a rejection where it can't be used. One that never was is answered like a wrong code. */
export function answer(
  tx: Tx,
  challenge: ChallengeRow | undefined,
  { refused, isRight }: Tried,
  purpose: Purpose,
  now: Timestamp,
): ChallengeRow | Rejection {
  if (refused !== undefined) return refused;
  if (challenge === undefined || !isRight || challenge.purpose !== purpose) return reject("invalid_code");
  if (!isOpen(challenge, now)) return reject("invalid_code");
  // What it holds of an account to be is of no use any more.
  const used: ChallengeRow = { ...challenge, passwordHash: undefined, usedAt: now };
  tx.update(challenges, used);
  return challenge;
}
