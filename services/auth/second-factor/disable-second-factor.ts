import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { find } from "#platform/reads/query.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { tryPassword, unproven } from "../passwords/prove-owner.ts";
import { ownRows, ownSession } from "../sessions/own-rows.ts";
import { endAllSessions, renewed, tokensOf } from "../sessions/session.ts";
import { tokenMakers } from "../sessions/token-makers.ts";
import { secondFactors, sessions, users } from "../tables.ts";
import { accept, isOn, turnedOff } from "./second-factor.ts";
import { secondFactorSecrets } from "./second-factor-secrets.ts";
import { tellOfSwitch } from "./tell-of-change.ts";
import { trySecondFactor } from "./try-second-factor.ts";

/**
 * Turns the second factor off for who has both factors. All other sessions end: none of those that were begun with it may count as such
 * when there is another one day.
 */
export const disableSecondFactor = operation(AuthService.method.disableSecondFactor, {
  async prepare({ password, code }, context) {
    const { caller, kv, use, sql, origin, now } = context;
    const { userId } = requireUser(caller);
    const secrets = use(secondFactorSecrets);
    const tried = await tryPassword({ kv, use, origin }, await find(sql, users.row(userId)), password);
    const refused = await trySecondFactor(context, { userId }, (factor) => accept(secrets, factor, code, now) !== undefined);
    return { refused: tried.refused ?? refused, tried, secrets, makers: tokenMakers(use) };
  },
  lock: (_, context) => ownRows(context),
  write(tx, { code }, context) {
    const { locked, now } = context;
    const { refused, tried, secrets, makers } = context.prepared;
    const { factor } = locked;
    if (refused !== undefined) return refused;
    const own = ownSession(locked, now);
    if (own === undefined) return reject("no_session");
    if (!isOn(factor)) return reject("second_factor_off");
    const unproved = unproven(tried, own.user, own.session, now);
    if (unproved !== undefined) return unproved;
    if (accept(secrets, factor, code, now) === undefined) return reject("wrong_code");
    const user = endAllSessions(tx, own.user, { reason: "second_factor_off", now });
    const session = renewed(own.session, { epoch: user.sessionEpoch, secondFactor: false }, now);
    tx.update(secondFactors, turnedOff(factor));
    tx.update(sessions, session);
    tellOfSwitch(tx, user, "turned_off", context);
    return tokensOf(makers, user, session, now);
  },
});
