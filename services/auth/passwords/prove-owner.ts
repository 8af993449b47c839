import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Rejection, reject } from "#platform/rejection.ts";
import type { PrepareContext } from "#platform/writes/definitions.ts";
import { forgetSignInTries, noteFailure, takeSignInTry } from "../limits.ts";
import type { SessionRow, UserRow } from "../tables.ts";
import { contactIn } from "../users/contact.ts";
import { passwords } from "./passwords.ts";
import { isSamePassword } from "./same-password.ts";

/** Who has signed in so lately needs no other proof where there is no password. */
const FRESH_MS = 10 * 60_000;

/** What is known of a password before the user is locked: a try was taken for it, and whether it is that of the account as it was then. */
export type TriedPassword = { readonly refused: Rejection | undefined; readonly isRight: boolean; readonly seen: UserRow | undefined };

/** Takes a try, and looks whether it is the password of the user who calls. */
export async function tryPassword(
  { kv, use, origin }: Pick<PrepareContext, "kv" | "use" | "origin">,
  user: UserRow | undefined,
  password: string,
): Promise<TriedPassword> {
  const contact = user && contactIn(user);
  const hash = user?.passwordHash;
  if (hash === undefined || password === "") return { refused: undefined, isRight: false, seen: user };
  const refused = contact && (await takeSignInTry(kv, contact, origin));
  if (refused !== undefined) return { refused, isRight: false, seen: user };
  const isRight = await use(passwords).verify(password, hash);
  if (!isRight) await noteFailure(kv);
  else if (contact !== undefined) await forgetSignInTries(kv, contact);
  return { refused, isRight, seen: user };
}

/** Why who calls isn't taken for the account's owner: the password has to be right, or the session fresh where there is none. */
export function unproven(
  { refused, isRight, seen }: TriedPassword,
  user: UserRow,
  session: SessionRow,
  now: Timestamp,
): Rejection | undefined {
  if (refused !== undefined) return refused;
  if (user.passwordHash === undefined)
    return timestampMs(now) - timestampMs(session.createdAt) <= FRESH_MS ? undefined : reject("session_not_fresh");
  // Another since it was looked at: what was given isn't what counts.
  return isRight && isSamePassword(seen, user) ? undefined : reject("wrong_password");
}
