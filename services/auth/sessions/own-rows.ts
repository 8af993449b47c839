import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { type Caller, requireUser } from "#platform/access/caller.ts";
import type { Ref } from "#platform/writes/table.ts";
import { type SecondFactorRow, type SessionRow, secondFactors, sessions, type UserRow, users } from "../tables.ts";
import { isGood } from "./session.ts";

/** The rows of the calling user, and of the session with whose token was called. */
export function ownRows({ caller }: { readonly caller: Caller }): {
  readonly user: Ref<UserRow>;
  readonly session: Ref<SessionRow> | undefined;
  readonly factor: Ref<SecondFactorRow>;
} {
  const { userId, sessionId } = requireUser(caller);
  return {
    user: users.row(userId),
    session: sessionId === undefined ? undefined : sessions.row(sessionId),
    factor: secondFactors.row(userId),
  };
}

/** The user and the session, where it is the user's, and good: an access token outlives it by a moment. */
export function ownSession(
  { user, session }: { readonly user: UserRow | undefined; readonly session: SessionRow | undefined },
  now: Timestamp,
): { readonly user: UserRow; readonly session: SessionRow } | undefined {
  if (user === undefined || session === undefined || session.userId !== user.id || !isGood(session, user, now)) return undefined;
  return { user, session };
}
