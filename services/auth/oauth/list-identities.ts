import { create } from "@bufbuild/protobuf";
import { AuthService, ListIdentitiesResponseSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { query } from "#platform/reads/query.ts";
import { identitiesOf, toIdentity } from "./identity.ts";

/** What the caller's account is linked to. */
export const listIdentities = query(AuthService.method.listIdentities, async (_, { sql, caller }) => {
  const linked = await identitiesOf(sql, requireUser(caller).userId);
  return create(ListIdentitiesResponseSchema, { identities: linked.map(toIdentity) });
});
