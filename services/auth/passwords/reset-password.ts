import { create } from "@bufbuild/protobuf";
import { AuthService, ResetPasswordResponseSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { PasswordChangedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { isRejection, reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { answer, isOpen, tryCode } from "../codes/challenge.ts";
import { changeParams } from "../letters/change-params.ts";
import { tellOwner } from "../letters/letter.ts";
import { forgetSignInTries, takeStrengthCheck } from "../limits.ts";
import { endAllSessions } from "../sessions/session.ts";
import { challenges, users } from "../tables.ts";
import { contactIn, isStillAt } from "../users/contact.ts";
import { passwords } from "./passwords.ts";
import { strength } from "./strength.ts";

/** Sets another password for who has the code; all sessions end. A blocked account stays blocked. */
export const resetPassword = operation(AuthService.method.resetPassword, {
  async prepare(request, context) {
    const { kv, use, origin, now } = context;
    const { newPassword } = request;
    // Before the try: who is to take another password has the code still.
    const weak = (await takeStrengthCheck(kv, origin)) ?? (await use(strength).weakness(newPassword, []));
    if (weak !== undefined) return { tried: { refused: weak, isRight: false } };
    const { challenge, ...tried } = await tryCode(context, request);
    const contact = challenge && contactIn(challenge);
    const own = contact && (await use(strength).weakness(newPassword, [contact.value]));
    if (own !== undefined) return { tried: { refused: own, isRight: false } };
    const passwordHash = tried.isRight ? await use(passwords).hash(newPassword) : "";
    // They were tries of the password that was forgotten. Before the challenge is used, as unlock does it.
    if (challenge !== undefined && contact !== undefined && challenge.purpose === "RESET_PASSWORD" && isOpen(challenge, now))
      await forgetSignInTries(kv, contact);
    return { tried, userId: challenge?.userId, passwordHash };
  },
  lock: ({ challengeId }, { prepared: { userId } }) => ({
    challenge: challenges.row(challengeId),
    user: userId === undefined ? undefined : users.row(userId),
  }),
  write(tx, _, { prepared: { tried, passwordHash }, locked: { challenge, user }, origin, now }) {
    const answered = answer(tx, challenge, tried, "RESET_PASSWORD", now);
    if (isRejection(answered)) return answered;
    if (user === undefined || !isStillAt(answered, user) || passwordHash === undefined) return reject("invalid_code");
    tx.publish(PasswordChangedSchema, { userId: user.id, byReset: true });
    endAllSessions(tx, user, { reason: "password_changed", change: { passwordHash }, now });
    tellOwner(tx, user, "password-changed", changeParams(origin, now));
    return create(ResetPasswordResponseSchema);
  },
});
