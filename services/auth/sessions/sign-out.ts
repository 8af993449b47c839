import { create } from "@bufbuild/protobuf";
import { AuthService, SignOutResponseSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { sessions, users } from "../tables.ts";
import { endAllSessions, endOneSession } from "./session.ts";

/** Ends the session with whose token was called, or all of the user's. */
export const signOut = operation(AuthService.method.signOut, {
  lock: ({ everywhere }, { caller }) => {
    const { userId, sessionId } = requireUser(caller);
    return {
      user: everywhere ? users.row(userId) : undefined,
      session: everywhere || sessionId === undefined ? undefined : sessions.row(sessionId),
    };
  },
  write(tx, { everywhere }, { locked: { user, session }, caller, now }) {
    const { userId } = requireUser(caller);
    if (everywhere) {
      if (user !== undefined) endAllSessions(tx, user, { reason: "signed_out", now });
      return create(SignOutResponseSchema);
    }
    if (session === undefined || session.userId !== userId) return reject("no_session");
    if (session.endedAt === undefined) endOneSession(tx, session, "signed_out", now);
    return create(SignOutResponseSchema);
  },
});
