import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { RolesChangedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { callerName, callingUser } from "#platform/access/caller.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { revokeTokens } from "../sessions/session.ts";
import { secondFactors, users } from "../tables.ts";
import { changed, rolesText, toUser } from "./user.ts";

/** Gives an account other roles. Its tokens tell the old ones, and so they are refused; its sessions get new ones. */
export const setRoles = operation(AuthService.method.setRoles, {
  lock: ({ userId }) => ({ user: users.row(userId), factor: secondFactors.row(userId) }),
  write(tx, { roles }, { locked: { user, factor }, caller, now }) {
    if (user === undefined || user.status === "DELETED") return reject("not_found");
    // Nobody could make another: AUTH_ADMINS counts at sign-up alone.
    if (callingUser(caller)?.userId === user.id && !roles.includes("admin")) return reject("own_account");
    if (rolesText(roles) === user.roles) return toUser(user, factor);
    const after = changed(user, { roles: rolesText(roles) }, now);
    tx.update(users, after);
    revokeTokens(tx, after, now);
    tx.publish(RolesChangedSchema, { userId: user.id, roles, by: callerName(caller) });
    return toUser(after, factor);
  },
});
