import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { UserRegisteredSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { uuidv7 } from "#platform/ids.ts";
import { find } from "#platform/reads/query.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { beginOrAsk } from "../sessions/begin-or-ask.ts";
import { tokenMakers } from "../sessions/token-makers.ts";
import { secondFactors, users } from "../tables.ts";
import { type Contact, contactColumns, holderOf } from "../users/contact.ts";
import { firstAdmins } from "../users/first-admins.ts";
import { makeUser } from "../users/user.ts";
import { arrive, identityOf, link, linkedUser, namedUser } from "./identity.ts";
import type { OutsideUser } from "./provider.ts";

/** Begins a session for who comes from a provider, or asks for the second factor; makes the account where there is none. */
export const signInWithOauth = operation(AuthService.method.signInWithOauth, {
  async prepare(request, context) {
    const { use, sql } = context;
    const makers = tokenMakers(use);
    const arrived = await arrive(context, request);
    if (arrived.refused !== undefined) return { ...arrived, makers };
    const contact = confirmedContact(arrived.outside, use(firstAdmins));
    // In this order: where somebody made both at once, whoever sees the address taken sees by whom.
    const isHeld = contact !== undefined && (await find(sql, holderOf(contact))) !== undefined;
    return { ...arrived, makers, contact, isHeld, userId: await namedUser(sql, arrived.outside) };
  },
  lock: (_, { prepared: arrived }) => {
    if (arrived.refused !== undefined) return {};
    const { userId, contact } = arrived;
    return {
      identity: identityOf(arrived.outside),
      user: userId === undefined ? undefined : users.row(userId),
      factor: userId === undefined ? undefined : secondFactors.row(userId),
      holder: contact && holderOf(contact),
    };
  },
  write(tx, _, { prepared: arrived, locked, origin, id, now }) {
    if (arrived.refused !== undefined) return arrived.refused;
    const { makers, contact, isHeld, outside } = arrived;
    const { identity, factor, holder } = locked;
    // Linked by another at the same moment: whose second factor is to be asked for isn't locked.
    if (identity?.userId !== arrived.userId) return reject("begin_again");
    const known = linkedUser(identity, locked.user);
    if (known?.status === "BLOCKED") return reject("account_blocked");
    if (known !== undefined) return beginOrAsk(tx, makers, { user: known, factor, id, origin, now });
    if (contact === undefined) return reject("email_unverified");
    // Whoever made that account, and whoever has the address now, may be two: joining them would give one of them the other's.
    if (holder !== undefined) return reject(isHeld ? "account_exists" : "begin_again");
    const { locale = "en" } = outside;
    const user = makeUser({ id, contact, passwordHash: undefined, roles: [], locale, now });
    tx.insert(users, user);
    tx.publish(UserRegisteredSchema, { userId: id, ...contactColumns(contact), locale, roles: [] });
    link(tx, { identity, arrived, userId: id, id: uuidv7(), now });
    return beginOrAsk(tx, makers, { user, factor: undefined, id: uuidv7(), origin, now });
  },
});

/** The address that a new account gets. One that would make its owner an admin is confirmed by a code, and by no provider's word. */
const confirmedContact = ({ email, isEmailVerified }: OutsideUser, admins: ReadonlySet<string>): Contact | undefined =>
  email === undefined || !isEmailVerified || admins.has(email) ? undefined : { case: "email", value: email };
