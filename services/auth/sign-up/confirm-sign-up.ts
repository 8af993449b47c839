import { strict as assert } from "node:assert";
import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { UserRegisteredSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { uuidv7 } from "#platform/ids.ts";
import { isRejection, reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { answer, tryCode } from "../codes/challenge.ts";
import { beginSession, tokensOf } from "../sessions/session.ts";
import { tokenMakers } from "../sessions/token-makers.ts";
import { challenges, users } from "../tables.ts";
import { contactColumns, contactIn, holderOf } from "../users/contact.ts";
import { firstAdmins } from "../users/first-admins.ts";
import { makeUser } from "../users/user.ts";

/** Makes the account that a challenge holds, and begins its first session. */
export const confirmSignUp = operation(AuthService.method.confirmSignUp, {
  async prepare(request, context) {
    const { use } = context;
    const { challenge, ...tried } = await tryCode(context, request);
    const contact = challenge && contactIn(challenge);
    const roles = contact?.case === "email" && use(firstAdmins).has(contact.value) ? ["admin"] : [];
    return { tried, contact, roles, makers: tokenMakers(use) };
  },
  lock: ({ challengeId }, { prepared: { contact } }) => ({
    challenge: challenges.row(challengeId),
    holder: contact && holderOf(contact),
  }),
  write(tx, _, { prepared: { tried, roles, makers }, locked: { challenge, holder }, origin, id, now }) {
    const answered = answer(tx, challenge, tried, "SIGN_UP", now);
    if (isRejection(answered)) return answered;
    // Somebody else was faster with the same address, and had its code as well.
    if (holder !== undefined || answered.userId !== undefined) return reject("contact_taken");
    const contact = contactIn(answered);
    const { passwordHash, locale } = answered;
    assert(contact !== undefined && passwordHash !== undefined, "a sign-up holds a contact and a password");
    const user = makeUser({ id, contact, passwordHash, roles, locale, now });
    tx.insert(users, user);
    tx.publish(UserRegisteredSchema, { userId: id, ...contactColumns(contact), locale, roles });
    const session = beginSession(tx, { user, id: uuidv7(), origin, secondFactor: false, now });
    return tokensOf(makers, user, session, now);
  },
});
