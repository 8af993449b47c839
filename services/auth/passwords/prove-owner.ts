import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Rejection, reject } from "#platform/rejection.ts";
import type { PrepareContext } from "#platform/writes/definitions.ts";
import { forgetSignInTries, noteFailure, takeSignInTry } from "../limits.ts";
import type { SessionRow, UserRow } from "../tables.ts";
import { contactIn } from "../users/contact.ts";
import { passwords } from "./passwords.ts";

/** Who has signed in so lately needs no other proof where there is no password. */
const FRESH_MS = 10 * 60_000;

/** What is known of a password before the user is locked: a try was taken for it, and whether it is that of this hash. */
export type TriedPassword = { readonly refused: Rejection | undefined; readonly isRight: boolean; readonly hash: string | undefined };

/** Takes a try, and looks whether it is the password of the user who calls. */
export async function tryPassword(
  { kv, use, origin }: Pick<PrepareContext, "kv" | "use" | "origin">,
  user: UserRow | undefined,
  password: string,
): Promise<TriedPassword> {
  const contact = user && contactIn(user);
  const hash = user?.passwordHash;
  if (hash === undefined || password === "") return { refused: undefined, isRight: false, hash };
  const refused = contact && (await takeSignInTry(kv, contact, origin));
  if (refused !== undefined) return { refused, isRight: false, hash };
  const isRight = await use(passwords).verify(password, hash);
  if (!isRight) await noteFailure(kv);
  else if (contact !== undefined) await forgetSignInTries(kv, contact);
  return { refused, isRight, hash };
}

/** Why who calls isn't taken for the account's owner: the password has to be right, or the session fresh where there is none. */
export function unproven(
  { refused, isRight, hash }: TriedPassword,
  user: UserRow,
  session: SessionRow,
  now: Timestamp,
): Rejection | undefined {
  if (refused !== undefined) return refused;
  if (user.passwordHash === undefined)
    return timestampMs(now) - timestampMs(session.createdAt) <= FRESH_MS ? undefined : reject("session_not_fresh");
  // Another since it was looked at: what was given isn't what counts.
  return isRight && hash === user.passwordHash ? undefined : reject("wrong_password");
}
