import { strict as assert } from "node:assert";
import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { ContactChangedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { isRejection, reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { answer, tryCode } from "../codes/challenge.ts";
import { changeParams } from "../letters/change-params.ts";
import { enqueueLetter } from "../letters/letter.ts";
import { ownRows, ownSession } from "../sessions/own-rows.ts";
import { challenges, users } from "../tables.ts";
import { type Contact, contactColumns, contactIn, holderOf } from "./contact.ts";
import { toUser } from "./user.ts";

/** Gives the caller's account the address that a challenge holds; the one before, and the new one, are told. */
export const confirmContact = operation(AuthService.method.confirmContact, {
  async prepare(request, context) {
    const { challenge, ...tried } = await tryCode(context, request);
    return { tried, contact: challenge && contactIn(challenge) };
  },
  lock: ({ challengeId }, context) => ({
    ...ownRows(context),
    challenge: challenges.row(challengeId),
    holder: context.prepared.contact && holderOf(context.prepared.contact),
  }),
  write(tx, _, { prepared: { tried }, locked, origin, now }) {
    const { challenge, factor, holder } = locked;
    const user = ownSession(locked, now)?.user;
    // Another's challenge is none, nor is one of a session that has ended.
    const answered = answer(tx, challenge?.userId === user?.id ? challenge : undefined, tried, "CHANGE_CONTACT", now);
    if (isRejection(answered)) return answered;
    if (user === undefined) return reject("invalid_code");
    if (holder !== undefined && holder.id !== user.id) return reject("contact_taken");
    const contact = contactIn(answered);
    assert(contact !== undefined, "such a challenge holds a contact");
    const before = user[contact.case];
    const after = { ...user, [contact.case]: contact.value, updatedAt: now };
    tx.update(users, after);
    tx.publish(ContactChangedSchema, { userId: user.id, ...contactColumns(contact) });
    const { time } = changeParams(origin, now);
    const params = { what: contact.case, value: masked(contact), time };
    // Whoever has taken the account over must not change both unseen: the other kind is told where there was none of this one.
    const others = [before === undefined ? contactIn(user) : { case: contact.case, value: before }, contact];
    for (const told of others)
      if (told !== undefined) enqueueLetter(tx, told, { template: "contact-changed", userId: user.id, locale: user.locale, params });
    return toUser(after, factor);
  },
});

/** So much of it that its owner knows it. */
function masked({ case: kind, value }: Contact): string {
  if (kind === "phone") return `${value.slice(0, 2)}…${value.slice(-2)}`;
  const [name = "", domain = ""] = value.split("@");
  return `${name.slice(0, 1)}…@${domain}`;
}
