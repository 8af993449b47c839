import type { MessageInitShape } from "@bufbuild/protobuf";
import { SendLetterSchema } from "#contracts/polis/auth/v1/tasks_pb.ts";
import type { Tx } from "#platform/writes/definitions.ts";
import type { UserRow } from "../tables.ts";
import { type Contact, contactIn } from "../users/contact.ts";

/** The language of letters to who hasn't said theirs. */
export const LOCALE_DEFAULT = "en";

type Letter = Omit<MessageInitShape<typeof SendLetterSchema>, "$typeName" | "contact">;

/** Has a letter, or a text, sent to this address. */
export const enqueueLetter = (tx: Tx, contact: Contact, letter: Letter): void => void tx.enqueue(SendLetterSchema, { ...letter, contact });

/** Tells the owner of an account what became of it. */
export function tellOwner(tx: Tx, user: UserRow, template: string, params: Record<string, string>): void {
  const contact = contactIn(user);
  if (contact !== undefined) enqueueLetter(tx, contact, { template, userId: user.id, locale: user.locale, params });
}
