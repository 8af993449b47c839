import { create } from "@bufbuild/protobuf";
import { AuthService, UnlockResponseSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { isRejection } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { forgetSignInTries } from "../limits.ts";
import { challenges } from "../tables.ts";
import { contactIn } from "../users/contact.ts";
import { answer, isOpen, tryCode } from "./challenge.ts";

/** Forgets the tries to sign in to an account. */
export const unlock = operation(AuthService.method.unlock, {
  async prepare(request, context) {
    const { challenge, ...tried } = await tryCode(context, request);
    const contact = challenge?.purpose === "UNLOCK" && isOpen(challenge, context.now) ? contactIn(challenge) : undefined;
    // Before the challenge is used: in between, the code would be lost, and the account still locked.
    if (contact !== undefined) await forgetSignInTries(context.kv, contact);
    return tried;
  },
  lock: ({ challengeId }) => challenges.row(challengeId),
  write(tx, _, { prepared: tried, locked: challenge, now }) {
    const answered = answer(tx, challenge, tried, "UNLOCK", now);
    return isRejection(answered) ? answered : create(UnlockResponseSchema);
  },
});
