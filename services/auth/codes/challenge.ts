import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Challenge, ChallengeSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import type { Kv } from "#platform/kv/kv.ts";
import { type Rejection, reject } from "#platform/rejection.ts";
import type { Use } from "#platform/resource.ts";
import type { Tx } from "#platform/writes/definitions.ts";
import { takeCodeTry } from "../limits.ts";
import { type ChallengeRow, challenges, type Purpose } from "../tables.ts";
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

/** Takes a try. What comes at once is counted all the same, and a right code is as good as no code once tries are used up. */
export async function tryCode(
  kv: Kv,
  use: Use,
  { challengeId, code }: { readonly challengeId: string; readonly code: string },
): Promise<Tried> {
  const refused = await takeCodeTry(kv, challengeId);
  return { refused, isRight: refused === undefined && use(derivedSecrets).isCodeOf(challengeId, code) };
}

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
  if (challenge.usedAt !== undefined || timestampMs(challenge.expiresAt) <= timestampMs(now)) return reject("invalid_code");
  // What it holds of an account to be is of no use any more.
  const used: ChallengeRow = { ...challenge, passwordHash: undefined, usedAt: now };
  tx.update(challenges, used);
  return challenge;
}
