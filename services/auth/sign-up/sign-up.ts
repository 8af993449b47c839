import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { operation } from "#platform/writes/definitions.ts";
import { lifeMinutes, pose, toChallenge } from "../codes/challenge.ts";
import { enqueueLetter, LOCALE_DEFAULT } from "../letters/letter.ts";
import { takeCode, takeStrengthCheck } from "../limits.ts";
import { passwords } from "../passwords/passwords.ts";
import { strength } from "../passwords/strength.ts";
import { contactColumns, contactOf, holderOf } from "../users/contact.ts";

/**
 * Poses a challenge that holds what the account is to be; nothing else is kept of who never answers. Where there is an account already,
 * its owner is told, and the answer and its time are the same.
 */
export const signUp = operation(AuthService.method.signUp, {
  async prepare(request, { kv, use, origin }) {
    const contact = contactOf(request);
    const weak = (await takeStrengthCheck(kv, origin)) ?? (await use(strength).weakness(request.password, [contact.value]));
    const refused = weak ?? (await takeCode(kv, contact, origin));
    return { refused, passwordHash: refused === undefined ? await use(passwords).hash(request.password) : "" };
  },
  lock: (request) => holderOf(contactOf(request)),
  write(tx, request, { prepared: { refused, passwordHash }, locked: holder, id, now }) {
    if (refused !== undefined) return refused;
    const contact = contactOf(request);
    const locale = request.locale || LOCALE_DEFAULT;
    const challenge = pose(tx, { id, purpose: "SIGN_UP", userId: holder?.id, ...contactColumns(contact), passwordHash, locale, now });
    if (holder === undefined) {
      const { expiresAt } = challenge;
      enqueueLetter(tx, contact, { template: "confirm-sign-up", locale, params: { minutes: lifeMinutes }, challengeId: id, expiresAt });
    } else enqueueLetter(tx, contact, { template: "sign-up-again", userId: holder.id, locale: holder.locale, params: {} });
    return toChallenge(challenge);
  },
});
