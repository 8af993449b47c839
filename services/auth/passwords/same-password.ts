import type { UserRow } from "../tables.ts";

/** An account as it was when its password was looked at. */
export type SeenAccount = Pick<UserRow, "passwordHash" | "sessionEpoch">;

/**
 * Whether the password that was looked at is still the one that counts. With every other one the sessions end, so that under the same
 * epoch another hash is but the same password's, which a sign-in at the same time has made at new costs.
 */
export const isSamePassword = (seen: SeenAccount | undefined, user: SeenAccount): boolean =>
  seen !== undefined && (seen.passwordHash === user.passwordHash || seen.sessionEpoch === user.sessionEpoch);
