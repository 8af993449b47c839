import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { PasswordChangedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { find } from "#platform/reads/query.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { changeParams } from "../letters/change-params.ts";
import { tellOwner } from "../letters/letter.ts";
import { takeStrengthCheck } from "../limits.ts";
import { ownRows, ownSession } from "../sessions/own-rows.ts";
import { endAllSessions, renewed, tokensOf } from "../sessions/session.ts";
import { tokenMakers } from "../sessions/token-makers.ts";
import { sessions, users } from "../tables.ts";
import { contactIn } from "../users/contact.ts";
import { passwords } from "./passwords.ts";
import { tryPassword } from "./prove-owner.ts";
import { isSamePassword } from "./same-password.ts";
import { strength } from "./strength.ts";

/** Sets another password for who knows the current one. All other sessions end: whoever made it necessary may have begun one. */
export const changePassword = operation(AuthService.method.changePassword, {
  async prepare({ currentPassword, newPassword }, { kv, use, sql, caller, origin }) {
    const makers = tokenMakers(use);
    const user = await find(sql, users.row(requireUser(caller).userId));
    const contact = user && contactIn(user);
    const own = contact === undefined ? [] : [contact.value];
    const weak = (await takeStrengthCheck(kv, origin)) ?? (await use(strength).weakness(newPassword, own));
    if (weak !== undefined) return { refused: weak, makers };
    const tried = await tryPassword({ kv, use, origin }, user, currentPassword);
    return { refused: tried.refused, makers, tried, passwordHash: tried.isRight ? await use(passwords).hash(newPassword) : "" };
  },
  lock: (_, context) => ownRows(context),
  write(tx, _, { prepared: { refused, makers, tried, passwordHash }, locked, origin, now }) {
    if (refused !== undefined) return refused;
    // Over, or its user blocked, since the call was let in: what it is given now would outlive that.
    const own = ownSession(locked, now);
    if (own === undefined) return reject("no_session");
    const { user, session } = own;
    if (tried?.isRight !== true || !isSamePassword(tried.seen, user)) return reject("wrong_password");
    tx.publish(PasswordChangedSchema, { userId: user.id, byReset: false });
    const after = endAllSessions(tx, user, { reason: "password_changed", change: { passwordHash }, now });
    const kept = renewed(session, { epoch: after.sessionEpoch }, now);
    tx.update(sessions, kept);
    tellOwner(tx, user, "password-changed", changeParams(origin, now));
    return tokensOf(makers, after, kept, now);
  },
});
