import { create } from "@bufbuild/protobuf";
import { AuthService, RecoveryCodesSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { changeParams } from "../letters/change-params.ts";
import { tellOwner } from "../letters/letter.ts";
import { ownRows, ownSession } from "../sessions/own-rows.ts";
import { secondFactors } from "../tables.ts";
import { makeRecoveryCodes } from "./recovery-codes.ts";
import { isOn, withRecoveryCodes } from "./second-factor.ts";
import { secondFactorSecrets } from "./second-factor-secrets.ts";
import { publishChange } from "./tell-of-change.ts";

/** Gives ten recovery codes in place of those that are left. */
export const replaceRecoveryCodes = operation(AuthService.method.replaceRecoveryCodes, {
  prepare: async (_, { use }) => ({ secrets: use(secondFactorSecrets), recoveryCodes: makeRecoveryCodes() }),
  lock: (_, context) => ownRows(context),
  write(tx, _, { prepared: { secrets, recoveryCodes }, locked, caller, origin, now }) {
    const { factor } = locked;
    const own = ownSession(locked, now);
    if (own === undefined) return reject("no_session");
    if (!isOn(factor)) return reject("second_factor_off");
    tx.update(secondFactors, withRecoveryCodes(secrets, factor, recoveryCodes));
    tellOwner(tx, own.user, "recovery-codes-replaced", changeParams(origin, now));
    publishChange(tx, factor.userId, "recovery_codes_replaced", { caller });
    return create(RecoveryCodesSchema, { recoveryCodes });
  },
});
