import { create } from "@bufbuild/protobuf";
import { AuthService, UnlinkIdentityResponseSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { changeParams } from "../letters/change-params.ts";
import { tellOwner } from "../letters/letter.ts";
import { ownRows, ownSession } from "../sessions/own-rows.ts";
import { type IdentityRow, identities } from "../tables.ts";
import { identitiesOf, unlink } from "./identity.ts";

/**
 * Unlinks one of the caller's identities; one that is unlinked stays so. A code by mail is no other way to sign in: an address that a
 * provider has made for its user (Apple's relay) goes with it.
 */
export const unlinkIdentity = operation(AuthService.method.unlinkIdentity, {
  async prepare({ identityId }, { sql, caller }) {
    const linked = await identitiesOf(sql, requireUser(caller).userId);
    return { others: linked.map(({ id }) => id).filter((id) => id !== identityId) };
  },
  // The others as well: of two that are unlinked at once, the second one sees the first one gone.
  lock: ({ identityId }, context) => ({
    ...ownRows(context),
    identity: identities.row(identityId),
    others: context.prepared.others.map((id) => identities.row(id)),
  }),
  write(tx, _, { locked: { identity, others, ...rows }, caller, origin, now }) {
    const { userId } = requireUser(caller);
    if (identity?.userId !== userId) return reject("not_found");
    const own = ownSession(rows, now);
    if (own === undefined) return reject("no_session");
    if (identity.unlinkedAt !== undefined) return create(UnlinkIdentityResponseSchema);
    const isLinked = (other: IdentityRow | undefined) => other?.userId === userId && other.unlinkedAt === undefined;
    if (own.user.passwordHash === undefined && !others.some(isLinked)) return reject("last_way_to_sign_in");
    unlink(tx, identity, now);
    tellOwner(tx, own.user, "identity-unlinked", { ...changeParams(origin, now), provider: identity.provider });
    return create(UnlinkIdentityResponseSchema);
  },
});
