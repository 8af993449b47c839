import { create } from "@bufbuild/protobuf";
import { AuthService, SecondFactorOnSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { ownRows, ownSession } from "../sessions/own-rows.ts";
import { renewed, revokeTokens, tokensOf } from "../sessions/session.ts";
import { tokenMakers } from "../sessions/token-makers.ts";
import { secondFactors, sessions, users } from "../tables.ts";
import { changed } from "../users/user.ts";
import { makeRecoveryCodes } from "./recovery-codes.ts";
import { confirmed, isOn, setupOf, withRecoveryCodes } from "./second-factor.ts";
import { secondFactorSecrets } from "./second-factor-secrets.ts";
import { tellOfSwitch } from "./tell-of-change.ts";
import { trySecondFactor } from "./try-second-factor.ts";

/** Turns the second factor on for who has its secret in an app. Tries are counted: who has found a session may not guess their way to it. */
export const confirmTotp = operation(AuthService.method.confirmTotp, {
  async prepare({ code }, context) {
    const { caller, use, now } = context;
    const { userId } = requireUser(caller);
    const secrets = use(secondFactorSecrets);
    const refused = await trySecondFactor(context, { userId }, (factor) => confirmed(secrets, factor, code, now) !== undefined);
    return { refused, secrets, makers: tokenMakers(use), recoveryCodes: makeRecoveryCodes() };
  },
  lock: (_, context) => ownRows(context),
  write(tx, { code }, context) {
    const { locked, now } = context;
    const { refused, secrets, makers, recoveryCodes } = context.prepared;
    const { factor } = locked;
    if (refused !== undefined) return refused;
    const own = ownSession(locked, now);
    if (own === undefined) return reject("no_session");
    if (isOn(factor)) return reject("second_factor_on");
    if (factor === undefined || setupOf(factor, now) === undefined) return reject("setup_over");
    const on = confirmed(secrets, factor, code, now);
    if (on === undefined) return reject("wrong_code");
    const user = changed(own.user, {}, now);
    const session = renewed(own.session, { secondFactor: true }, now);
    tx.update(secondFactors, withRecoveryCodes(secrets, on, recoveryCodes));
    tx.update(users, user);
    tx.update(sessions, session);
    revokeTokens(tx, user, now);
    tellOfSwitch(tx, user, "turned_on", context);
    return create(SecondFactorOnSchema, { tokens: tokensOf(makers, user, session, now), recoveryCodes });
  },
});
