import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { find } from "#platform/reads/query.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { lifeMinutes, pose, toChallenge } from "../codes/challenge.ts";
import { enqueueLetter } from "../letters/letter.ts";
import { takeCode } from "../limits.ts";
import { tryPassword, unproven } from "../passwords/prove-owner.ts";
import { ownRows, ownSession } from "../sessions/own-rows.ts";
import { users } from "../tables.ts";
import { contactColumns, contactOf, holderOf } from "./contact.ts";

/** Poses a challenge whose code goes to the new address; where somebody has that already, they are told instead. */
export const changeContact = operation(AuthService.method.changeContact, {
  async prepare(request, { kv, use, sql, caller, origin }) {
    const user = await find(sql, users.row(requireUser(caller).userId));
    const tried = await tryPassword({ kv, use, origin }, user, request.password);
    // A code is only taken for who may have one: else anybody's token would use up somebody's.
    const mayHave = tried.refused === undefined && (tried.isRight || tried.seen?.passwordHash === undefined);
    return { tried, refused: mayHave ? await takeCode(kv, contactOf(request), origin) : tried.refused };
  },
  lock: (request, context) => ({ ...ownRows(context), holder: holderOf(contactOf(request)) }),
  write(tx, request, { prepared: { tried, refused }, locked, id, now }) {
    if (refused !== undefined) return refused;
    const own = ownSession(locked, now);
    if (own === undefined) return reject("no_session");
    const { user, session } = own;
    const { holder } = locked;
    const unproved = unproven(tried, user, session, now);
    if (unproved !== undefined) return unproved;
    const contact = contactOf(request);
    const { locale } = user;
    const challenge = pose(tx, { id, purpose: "CHANGE_CONTACT", userId: user.id, ...contactColumns(contact), locale, now });
    const { expiresAt } = challenge;
    if (holder === undefined)
      enqueueLetter(tx, contact, {
        template: "confirm-contact",
        userId: user.id,
        locale,
        params: { minutes: lifeMinutes },
        challengeId: id,
        expiresAt,
      });
    else enqueueLetter(tx, contact, { template: "sign-up-again", userId: holder.id, locale: holder.locale, params: {} });
    return toChallenge(challenge);
  },
});
