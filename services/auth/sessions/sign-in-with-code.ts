import { create } from "@bufbuild/protobuf";
import { AuthService, SignInResponseSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { find } from "#platform/reads/query.ts";
import { isRejection, reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { answer, tryCode } from "../codes/challenge.ts";
import { challenges, users } from "../tables.ts";
import { beginSession, tokensOf } from "./session.ts";
import { tokenMakers } from "./token-makers.ts";

/** Begins a session for who has the code that was sent to the account's address. */
export const signInWithCode = operation(AuthService.method.signInWithCode, {
  async prepare(request, { kv, use, sql }) {
    const tried = await tryCode(kv, use, request);
    const challenge = tried.isRight ? await find(sql, challenges.row(request.challengeId)) : undefined;
    return { tried, userId: challenge?.userId, makers: tokenMakers(use) };
  },
  lock: ({ challengeId }, { prepared: { userId } }) => ({
    challenge: challenges.row(challengeId),
    user: userId === undefined ? undefined : users.row(userId),
  }),
  write(tx, _, { prepared: { tried, makers }, locked: { challenge, user }, origin, id, now }) {
    const answered = answer(tx, challenge, tried, "SIGN_IN", now);
    if (isRejection(answered)) return answered;
    if (user === undefined || user.status === "DELETED") return reject("invalid_code");
    if (user.status === "BLOCKED") return reject("account_blocked");
    const session = beginSession(tx, { user, id, origin, secondFactor: false, now });
    return create(SignInResponseSchema, { outcome: { case: "tokens", value: tokensOf(makers, user, session, now) } });
  },
});
