import { create } from "@bufbuild/protobuf";
import { AuthService, DeleteAccountResponseSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { UserDeletedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { find } from "#platform/reads/query.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { tellOwner } from "../letters/letter.ts";
import { identitiesOf, unlink } from "../oauth/identity.ts";
import { tryPassword, unproven } from "../passwords/prove-owner.ts";
import { turnedOff } from "../second-factor/second-factor.ts";
import { ownRows, ownSession } from "../sessions/own-rows.ts";
import { endAllSessions } from "../sessions/session.ts";
import { identities, secondFactors, users } from "../tables.ts";

/** Deletes an account: what it was known by is forgotten, so that nobody signs in to it and its addresses are free. Its id stays, for what it did. */
export const deleteAccount = operation(AuthService.method.deleteAccount, {
  async prepare({ password }, { kv, use, sql, caller, origin }) {
    const { userId } = requireUser(caller);
    const tried = await tryPassword({ kv, use, origin }, await find(sql, users.row(userId)), password);
    return { tried, linked: (await identitiesOf(sql, userId)).map(({ id }) => id) };
  },
  lock: (_, context) => ({ ...ownRows(context), linked: context.prepared.linked.map((id) => identities.row(id)) }),
  write(tx, _, { prepared: { tried }, locked, now }) {
    const own = ownSession(locked, now);
    if (own === undefined) return reject("no_session");
    const { user, session } = own;
    const unproved = unproven(tried, user, session, now);
    if (unproved !== undefined) return unproved;
    const { id: userId } = user;
    tellOwner(tx, user, "account-deleted", {});
    const gone = { status: "DELETED", email: undefined, phone: undefined, passwordHash: undefined, roles: "" } as const;
    endAllSessions(tx, user, { reason: "account_deleted", change: gone, now });
    if (locked.factor !== undefined) tx.update(secondFactors, turnedOff(locked.factor));
    // One that is linked at this very moment isn't seen; it is taken for nobody's when it next signs in.
    for (const identity of locked.linked) if (identity?.userId === userId && identity.unlinkedAt === undefined) unlink(tx, identity, now);
    tx.publish(UserDeletedSchema, { userId });
    return create(DeleteAccountResponseSchema);
  },
});
