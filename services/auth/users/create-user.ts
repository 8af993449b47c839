import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { UserRegisteredSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { LOCALE_DEFAULT } from "../letters/letter.ts";
import { passwords } from "../passwords/passwords.ts";
import { strength } from "../passwords/strength.ts";
import { users } from "../tables.ts";
import { contactColumns, contactOf, holderOf } from "./contact.ts";
import { makeUser, toUser } from "./user.ts";

/** Makes an account for somebody; who made it vouches for the address. */
export const createUser = operation(AuthService.method.createUser, {
  async prepare(request, { use }) {
    const refused = await use(strength).weakness(request.password, [contactOf(request).value]);
    return { refused, passwordHash: refused === undefined ? await use(passwords).hash(request.password) : "" };
  },
  lock: (request) => ({
    holder: holderOf(contactOf(request)),
    same: request.userId === "" ? undefined : users.row(request.userId),
  }),
  write(tx, request, { prepared: { refused, passwordHash }, locked: { holder, same }, id, now }) {
    if (refused !== undefined) return refused;
    if (holder !== undefined || same !== undefined) return reject("contact_taken");
    const contact = contactOf(request);
    const { roles, locale } = request;
    const user = makeUser({ id: request.userId || id, contact, passwordHash, roles, locale: locale || LOCALE_DEFAULT, now });
    tx.insert(users, user);
    tx.publish(UserRegisteredSchema, { userId: user.id, ...contactColumns(contact), locale: user.locale, roles });
    return toUser(user, undefined);
  },
});
