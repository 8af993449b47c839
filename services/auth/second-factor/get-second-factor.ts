import { create } from "@bufbuild/protobuf";
import { AuthService, SecondFactorStatusSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { find, query } from "#platform/reads/query.ts";
import { secondFactors } from "../tables.ts";
import { isOn, recoveryCodesLeft } from "./second-factor.ts";

/** What the caller's account has of a second factor. */
export const getSecondFactor = query(AuthService.method.getSecondFactor, async (_, { sql, caller }) => {
  const factor = await find(sql, secondFactors.row(requireUser(caller).userId));
  if (!isOn(factor)) return create(SecondFactorStatusSchema);
  return create(SecondFactorStatusSchema, { on: true, onSince: factor.onSince, recoveryCodesLeft: recoveryCodesLeft(factor) });
});
