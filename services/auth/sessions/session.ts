import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Tokens, TokensSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { SessionsEndedSchema, SignedInSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { uuidv7 } from "#platform/ids.ts";
import type { Origin } from "#platform/rpc/origin.ts";
import type { Tx } from "#platform/writes/definitions.ts";
import type { DerivedSecrets } from "../codes/derived-secrets.ts";
import { ACCESS_MS } from "../keys/signing-key.ts";
import type { SigningKeys } from "../keys/signing-keys.ts";
import { type RevocationRow, revocations, type SessionRow, sessions, type UserRow, users } from "../tables.ts";
import { changed, rolesOf } from "../users/user.ts";

const DAY_MS = 24 * 3_600_000;
/** A session that isn't refreshed for so long is over. */
const IDLE_MS = 30 * DAY_MS;
/** However often it is refreshed. */
const LIFE_MS = 180 * DAY_MS;
/** An answer may be lost: who comes again with the token before, so soon, gets the same answer once more. */
const REPEAT_MS = 10_000;
/** Clocks differ: a token may be taken for so long after it is over. */
const SKEW_MS = 60_000;

/** What tokens are made with. */
export type TokenMakers = { readonly keys: SigningKeys; readonly derived: DerivedSecrets };

type Beginning = {
  readonly user: UserRow;
  readonly id: string;
  readonly origin: Origin | undefined;
  readonly secondFactor: boolean;
  readonly now: Timestamp;
};

/** Begins a session, and tells of it. */
export function beginSession(tx: Tx, { user, id, origin, secondFactor, now }: Beginning): SessionRow {
  const session: SessionRow = {
    id,
    userId: user.id,
    epoch: user.sessionEpoch,
    generation: 1,
    device: origin?.userAgent ?? "",
    address: origin?.address ?? "",
    secondFactor,
    createdAt: now,
    lastUsedAt: now,
    expiresAt: later(now, IDLE_MS),
    endedAt: undefined,
  };
  tx.insert(sessions, session);
  const { device, address } = session;
  tx.publish(SignedInSchema, { userId: user.id, sessionId: id, device, address, secondFactor });
  return session;
}

/** The tokens of a session as it is now. */
export const tokensOf = ({ keys, derived }: TokenMakers, user: UserRow, session: SessionRow, now: Timestamp): Tokens =>
  create(TokensSchema, {
    accessToken: keys.sign(
      { sub: user.id, sid: session.id, ver: user.tokenVersion, roles: rolesOf(user), mfa: session.secondFactor },
      timestampMs(now),
    ),
    tokenType: "Bearer",
    expiresIn: ACCESS_MS / 1000,
    refreshToken: derived.refreshToken({ sessionId: session.id, generation: session.generation }),
    refreshExpiresAt: session.expiresAt,
    userId: user.id,
    sessionId: session.id,
  });

export const isGood = ({ epoch, endedAt, expiresAt }: SessionRow, { sessionEpoch, status }: UserRow, now: Timestamp): boolean =>
  status === "ACTIVE" && epoch === sessionEpoch && endedAt === undefined && timestampMs(expiresAt) > timestampMs(now);

/** What becomes of a session for which a refresh token of this generation comes. */
export type Refreshed = { readonly kind: "next" | "repeat"; readonly session: SessionRow } | { readonly kind: "reused" };

export function refreshed(session: SessionRow, generation: number, address: string, now: Timestamp): Refreshed {
  if (generation === session.generation) {
    const end = Math.min(timestampMs(now) + IDLE_MS, timestampMs(session.createdAt) + LIFE_MS);
    return { kind: "next", session: { ...session, generation: generation + 1, address, lastUsedAt: now, expiresAt: timestampFromMs(end) } };
  }
  const isRepeat = generation === session.generation - 1 && timestampMs(now) - timestampMs(session.lastUsedAt) <= REPEAT_MS;
  return isRepeat ? { kind: "repeat", session } : { kind: "reused" };
}

/**
 * With another refresh token, and another word about itself: a token that somebody has copied before gets no more by that. One generation
 * is left out, for whose token comes again soon gets the answer of now.
 */
export const renewed = (session: SessionRow, change: Partial<SessionRow>, now: Timestamp): SessionRow => ({
  ...session,
  ...change,
  generation: session.generation + 2,
  lastUsedAt: now,
});

/** Ends a session that the item has locked: its refresh token is over, and its access tokens are refused from now on. */
export function endOneSession(tx: Tx, session: SessionRow, reason: "signed_out" | "refresh_token_reused", now: Timestamp): void {
  tx.update(sessions, { ...session, endedAt: now });
  revoke(tx, { sessionId: session.id }, now);
  tx.publish(SessionsEndedSchema, { userId: session.userId, sessionId: session.id, reason });
}

type EndOfAll = {
  readonly reason: "signed_out" | "password_changed" | "blocked" | "second_factor_off" | "account_deleted";
  /** What becomes of the user besides. */
  readonly change?: Partial<UserRow>;
  readonly now: Timestamp;
};

/** Ends all sessions of a user whom the item has locked, and has their access tokens refused from now on. Gives the user as they are then. */
export function endAllSessions(tx: Tx, user: UserRow, { reason, change = {}, now }: EndOfAll): UserRow {
  const after = changed(user, { ...change, sessionEpoch: user.sessionEpoch + 1 }, now);
  tx.update(users, after);
  revokeTokens(tx, after, now);
  tx.publish(SessionsEndedSchema, { userId: user.id, reason });
  return after;
}

/** Has all access tokens of a user refused that are of an earlier version than the user now is. */
export const revokeTokens = (tx: Tx, user: UserRow, now: Timestamp): void =>
  revoke(tx, { userId: user.id, versionMin: user.tokenVersion }, now);

/** Has access tokens, or a key, refused from now on. */
export function revoke(tx: Tx, whose: Partial<RevocationRow>, now: Timestamp): void {
  const expiresAt = later(now, ACCESS_MS + SKEW_MS);
  tx.insert(revocations, {
    id: uuidv7(timestampMs(now)),
    sessionId: undefined,
    userId: undefined,
    apiKeyId: undefined,
    versionMin: 0,
    expiresAt,
    ...whose,
  });
}

const later = (time: Timestamp, ms: number): Timestamp => timestampFromMs(timestampMs(time) + ms);
