import { strict as assert } from "node:assert";
import type { Ref } from "#platform/writes/table.ts";
import { type ChallengeRow, type UserRow, users } from "../tables.ts";

/** An address of mail or a phone number, by which somebody is known. */
export type Contact = { readonly case: "email" | "phone"; readonly value: string };

/** As a request has it, which the contract demands; an address of mail is the same however its letters are written. */
export function contactOf({
  contact,
}: {
  readonly contact: { readonly case?: "email" | "phone" | undefined; readonly value?: string | undefined };
}): Contact {
  assert(contact.case !== undefined && contact.value !== undefined, "the contract demands a contact");
  return { case: contact.case, value: contact.case === "email" ? contact.value.toLowerCase() : contact.value };
}

export const contactIn = ({
  email,
  phone,
}: {
  readonly email: string | undefined;
  readonly phone: string | undefined;
}): Contact | undefined =>
  email !== undefined ? { case: "email", value: email } : phone !== undefined ? { case: "phone", value: phone } : undefined;

/** Whether an account that is there still has the address of a challenge of its: a code in the mail of another is nobody's. */
export const isStillAt = (challenge: ChallengeRow, user: UserRow): boolean => {
  const contact = contactIn(challenge);
  return user.status !== "DELETED" && contact !== undefined && user[contact.case] === contact.value;
};

/** The columns of a row. */
export const contactColumns = (contact: Contact): { readonly email: string | undefined; readonly phone: string | undefined } => ({
  email: contact.case === "email" ? contact.value : undefined,
  phone: contact.case === "phone" ? contact.value : undefined,
});

/** The user who has it. */
export const holderOf = (contact: Contact): Ref<UserRow> => users.rowBy(contact.case, contact.value);
