import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { ownRows, ownSession } from "../sessions/own-rows.ts";
import { renewed, tokensOf } from "../sessions/session.ts";
import { tokenMakers } from "../sessions/token-makers.ts";
import { secondFactors, sessions } from "../tables.ts";
import { accept, isOn } from "./second-factor.ts";
import { secondFactorSecrets } from "./second-factor-secrets.ts";
import { tellOfRecoveryCode } from "./tell-of-change.ts";
import { trySecondFactor } from "./try-second-factor.ts";

/** Makes a session that began without it one with a second factor. */
export const verifySecondFactor = operation(AuthService.method.verifySecondFactor, {
  async prepare({ code }, context) {
    const { caller, use, now } = context;
    const { userId } = requireUser(caller);
    const secrets = use(secondFactorSecrets);
    const refused = await trySecondFactor(context, { userId }, (factor) => accept(secrets, factor, code, now) !== undefined);
    return { refused, secrets, makers: tokenMakers(use) };
  },
  lock: (_, context) => ownRows(context),
  write(tx, { code }, context) {
    const { locked, now } = context;
    const { refused, secrets, makers } = context.prepared;
    const { factor } = locked;
    if (refused !== undefined) return refused;
    const own = ownSession(locked, now);
    if (own === undefined) return reject("no_session");
    if (!isOn(factor)) return reject("second_factor_off");
    const accepted = accept(secrets, factor, code, now);
    if (accepted === undefined) return reject("wrong_code");
    const session = renewed(own.session, { secondFactor: true }, now);
    tx.update(secondFactors, accepted.factor);
    tx.update(sessions, session);
    tellOfRecoveryCode(tx, own.user, accepted, context);
    return tokensOf(makers, own.user, session, now);
  },
});
