import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { isRejection, reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { answer, tryCode } from "../codes/challenge.ts";
import { challenges, secondFactors, users } from "../tables.ts";
import { isStillAt } from "../users/contact.ts";
import { beginOrAsk } from "./begin-or-ask.ts";
import { tokenMakers } from "./token-makers.ts";

/** Begins a session for who has the code that was sent to the account's address, or asks for the second factor. */
export const signInWithCode = operation(AuthService.method.signInWithCode, {
  async prepare(request, context) {
    const { challenge, ...tried } = await tryCode(context, request);
    return { tried, userId: challenge?.userId, makers: tokenMakers(context.use) };
  },
  lock: ({ challengeId }, { prepared: { userId } }) => ({
    challenge: challenges.row(challengeId),
    user: userId === undefined ? undefined : users.row(userId),
    factor: userId === undefined ? undefined : secondFactors.row(userId),
  }),
  write(tx, _, { prepared: { tried, makers }, locked: { challenge, user, factor }, origin, id, now }) {
    const answered = answer(tx, challenge, tried, "SIGN_IN", now);
    if (isRejection(answered)) return answered;
    if (user === undefined || !isStillAt(answered, user)) return reject("invalid_code");
    if (user.status === "BLOCKED") return reject("account_blocked");
    return beginOrAsk(tx, makers, { user, factor, id, origin, now });
  },
});
