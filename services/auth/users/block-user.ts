import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { SessionsEndedSchema, UserBlockedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { callerName, callingUser } from "#platform/access/caller.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { revokeTokens } from "../sessions/session.ts";
import { secondFactors, users } from "../tables.ts";
import { toUser, withoutSessions } from "./user.ts";

/** Shuts an account out at once. */
export const blockUser = operation(AuthService.method.blockUser, {
  lock: ({ userId }) => ({ user: users.row(userId), factor: secondFactors.row(userId) }),
  write(tx, { userId, reason }, { locked: { user, factor }, caller, now }) {
    if (user === undefined || user.status === "DELETED") return reject("not_found");
    if (callingUser(caller)?.userId === userId) return reject("own_account");
    if (user.status === "BLOCKED") return toUser(user, factor);
    const after = withoutSessions(user, { status: "BLOCKED", blockedReason: reason }, now);
    tx.update(users, after);
    revokeTokens(tx, after, now);
    tx.publish(UserBlockedSchema, { userId, reason, by: callerName(caller) });
    tx.publish(SessionsEndedSchema, { userId, reason: "blocked" });
    return toUser(after, factor);
  },
});
