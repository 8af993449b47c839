import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { find, query } from "#platform/reads/query.ts";
import { secondFactors, users } from "../tables.ts";
import { toUser } from "./user.ts";

/** An account, for staff. */
export const getUser = query(AuthService.method.getUser, async ({ userId }, { sql }) => {
  const user = await find(sql, users.row(userId));
  return user && toUser(user, await find(sql, secondFactors.row(userId)));
});
