import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { find } from "#platform/reads/query.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { tryPassword, unproven } from "../passwords/prove-owner.ts";
import { ownRows, ownSession } from "../sessions/own-rows.ts";
import { users } from "../tables.ts";
import { beginFlow } from "./flow.ts";

/** Begins to link a provider, for who proves to be the owner: what is linked signs in from then on, and outlives the session. */
export const beginLink = operation(AuthService.method.beginLink, {
  async prepare({ provider, returnTo, password }, context) {
    const { sql, caller, now } = context;
    const { userId } = requireUser(caller);
    const tried = await tryPassword(context, await find(sql, users.row(userId)), password);
    const mayBegin = tried.refused === undefined && (tried.isRight || tried.seen?.passwordHash === undefined);
    return { tried, begun: mayBegin ? await beginFlow(context, { provider, returnTo, userId }, now) : undefined };
  },
  lock: (_, context) => ownRows(context),
  write(_tx, _, { prepared: { tried, begun }, locked, now }) {
    const own = ownSession(locked, now);
    if (own === undefined) return reject("no_session");
    return unproven(tried, own.user, own.session, now) ?? begun ?? reject("wrong_password");
  },
});
