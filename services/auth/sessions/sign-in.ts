import { create } from "@bufbuild/protobuf";
import { AuthService, SignInResponseSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { SignInFailedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { find } from "#platform/reads/query.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { forgetSignInTries, noteFailure, takeSignInTry } from "../limits.ts";
import { passwords } from "../passwords/passwords.ts";
import { users } from "../tables.ts";
import { contactOf, holderOf } from "../users/contact.ts";
import { beginSession, tokensOf } from "./session.ts";
import { tokenMakers } from "./token-makers.ts";

/** Begins a session for who knows the password. An account that isn't there is answered like a wrong password, after the same work. */
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
    return { refused, makers, tried: { hash: user?.passwordHash, isRight, rehashed } };
  },
  lock: (request) => holderOf(contactOf(request)),
  write(tx, _, { prepared: { refused, makers, tried }, locked: user, origin, id, now }) {
    if (refused !== undefined) return refused;
    if (user === undefined || user.status === "DELETED") return reject("invalid_credentials");
    // Changed since it was looked at: the password that was given isn't the one that counts.
    if (tried?.isRight !== true || tried.hash !== user.passwordHash) {
      tx.publish(SignInFailedSchema, { userId: user.id, address: origin?.address ?? "", device: origin?.userAgent ?? "" });
      return reject("invalid_credentials", undefined, { keepsWrites: true });
    }
    if (user.status === "BLOCKED") return reject("account_blocked");
    if (tried.rehashed !== undefined) tx.update(users, { ...user, passwordHash: tried.rehashed, updatedAt: now });
    const session = beginSession(tx, { user, id, origin, secondFactor: false, now });
    return create(SignInResponseSchema, { outcome: { case: "tokens", value: tokensOf(makers, user, session, now) } });
  },
});
