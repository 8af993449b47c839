import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { SignInFailedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { derivedUuid } from "#platform/ids.ts";
import { find } from "#platform/reads/query.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { forgetSignInTries, noteFailure, takeSignInTry } from "../limits.ts";
import { passwords } from "../passwords/passwords.ts";
import { isSamePassword } from "../passwords/same-password.ts";
import { secondFactors, users } from "../tables.ts";
import { contactOf, holderOf } from "../users/contact.ts";
import { beginOrAsk } from "./begin-or-ask.ts";
import { tokenMakers } from "./token-makers.ts";

/** Begins a session for who knows the password, or asks for the second factor. An account that isn't there is answered like a wrong password, after the same work. */
export const signIn = operation(AuthService.method.signIn, {
  async prepare(request, { kv, use, sql, origin }) {
    const makers = tokenMakers(use);
    const contact = contactOf(request);
    const refused = await takeSignInTry(kv, contact, origin);
    if (refused !== undefined) return { refused, makers };
    const user = await find(sql, holderOf(contact));
    const isRight = await use(passwords).verify(request.password, user?.passwordHash);
    if (isRight) await forgetSignInTries(kv, contact);
    else await noteFailure(kv);
    const isOutdated = isRight && use(passwords).isOutdated(user?.passwordHash ?? "");
    const rehashed = isOutdated ? await use(passwords).hash(request.password) : undefined;
    return { refused, makers, seen: user, tried: { isRight, rehashed } };
  },
  lock: (request, { prepared: { seen } }) => ({
    user: holderOf(contactOf(request)),
    factor: seen === undefined ? undefined : secondFactors.row(seen.id),
  }),
  write(tx, request, { prepared: { refused, makers, seen, tried }, locked: { user, factor }, origin, id, now }) {
    if (refused !== undefined) return refused;
    const isThere = user !== undefined && user.status !== "DELETED";
    // Changed since it was looked at: the password that was given isn't the one that counts, or it is somebody else's.
    if (!isThere || tried?.isRight !== true || seen?.id !== user.id || !isSamePassword(seen, user)) {
      const { case: kind, value } = contactOf(request);
      // Where there is no account as well: a commit takes its time, and would tell.
      const whose = isThere ? user.id : derivedUuid("no account", kind, value);
      tx.publish(SignInFailedSchema, { userId: whose, isKnown: isThere, address: origin?.address ?? "", device: origin?.userAgent ?? "" });
      return reject("invalid_credentials", undefined, { keepsWrites: true });
    }
    if (user.status === "BLOCKED") return reject("account_blocked");
    if (tried.rehashed !== undefined) tx.update(users, { ...user, passwordHash: tried.rehashed, updatedAt: now });
    return beginOrAsk(tx, makers, { user, factor, id, origin, now });
  },
});
