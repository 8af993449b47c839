import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { changeParams } from "../letters/change-params.ts";
import { tellOwner } from "../letters/letter.ts";
import { ownRows, ownSession } from "../sessions/own-rows.ts";
import { users } from "../tables.ts";
import { arrive, IDENTITIES_MAX, identitiesOf, identityOf, link, linkedUser, namedUser, toIdentity } from "./identity.ts";

/** Links who comes from a provider to the account of who began it; what is linked to it already stays so. */
export const linkIdentity = operation(AuthService.method.linkIdentity, {
  async prepare(request, context) {
    const { sql, caller } = context;
    const { userId } = requireUser(caller);
    const arrived = await arrive(context, request, userId);
    if (arrived.refused !== undefined) return arrived;
    return { ...arrived, ownerId: await namedUser(sql, arrived.outside), count: (await identitiesOf(sql, userId)).length };
  },
  lock: (_, context) => {
    const { prepared: arrived } = context;
    const isThere = arrived.refused === undefined;
    return {
      ...ownRows(context),
      identity: isThere ? identityOf(arrived.outside) : undefined,
      owner: isThere && arrived.ownerId !== undefined ? users.row(arrived.ownerId) : undefined,
    };
  },
  write(tx, _, { prepared: arrived, locked, origin, id, now }) {
    if (arrived.refused !== undefined) return arrived.refused;
    const { identity } = locked;
    const own = ownSession(locked, now);
    if (own === undefined) return reject("no_session");
    if (identity?.userId !== arrived.ownerId) return reject("begin_again");
    const { user } = own;
    const owner = linkedUser(identity, locked.owner);
    if (identity !== undefined && owner?.id === user.id) return toIdentity(identity);
    if (owner !== undefined) return reject("identity_taken");
    if (arrived.count >= IDENTITIES_MAX) return reject("too_many_identities");
    const linked = link(tx, { identity, arrived, userId: user.id, id, now });
    tellOwner(tx, user, "identity-linked", { ...changeParams(origin, now), provider: linked.provider });
    return toIdentity(linked);
  },
});
