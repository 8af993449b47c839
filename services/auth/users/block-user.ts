import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { UserBlockedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { callerName, callingUser } from "#platform/access/caller.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { endAllSessions } from "../sessions/session.ts";
import { secondFactors, users } from "../tables.ts";
import { toUser } from "./user.ts";

/** Shuts an account out at once. */
export const blockUser = operation(AuthService.method.blockUser, {
  lock: ({ userId }) => ({ user: users.row(userId), factor: secondFactors.row(userId) }),
  write(tx, { userId, reason }, { locked: { user, factor }, caller, now }) {
    if (user === undefined || user.status === "DELETED") return reject("not_found");
    if (callingUser(caller)?.userId === userId) return reject("own_account");
    if (user.status === "BLOCKED") return toUser(user, factor);
    tx.publish(UserBlockedSchema, { userId, reason, by: callerName(caller) });
    const after = endAllSessions(tx, user, { reason: "blocked", change: { status: "BLOCKED", blockedReason: reason }, now });
    return toUser(after, factor);
  },
});
