import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { UserUnblockedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { callerName } from "#platform/access/caller.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { secondFactors, users } from "../tables.ts";
import { toUser } from "./user.ts";

/** Lets an account in again; its sessions of before stay over. */
export const unblockUser = operation(AuthService.method.unblockUser, {
  lock: ({ userId }) => ({ user: users.row(userId), factor: secondFactors.row(userId) }),
  write(tx, { userId }, { locked: { user, factor }, caller, now }) {
    if (user === undefined || user.status === "DELETED") return reject("not_found");
    if (user.status !== "BLOCKED") return toUser(user, factor);
    const after = { ...user, status: "ACTIVE" as const, blockedReason: undefined, updatedAt: now };
    tx.update(users, after);
    tx.publish(UserUnblockedSchema, { userId, by: callerName(caller) });
    return toUser(after, factor);
  },
});
