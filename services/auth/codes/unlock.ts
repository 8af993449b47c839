import { create } from "@bufbuild/protobuf";
import { AuthService, UnlockResponseSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { find } from "#platform/reads/query.ts";
import { isRejection } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { forgetSignInTries } from "../limits.ts";
import { challenges } from "../tables.ts";
import { contactIn } from "../users/contact.ts";
import { answer, tryCode } from "./challenge.ts";

/** Forgets the tries to sign in to an account. */
export const unlock = operation(AuthService.method.unlock, {
  async prepare({ challengeId, code }, { kv, use, sql }) {
    const tried = await tryCode(kv, use, { challengeId, code });
    const challenge = tried.isRight ? await find(sql, challenges.row(challengeId)) : undefined;
    const contact = challenge?.purpose === "UNLOCK" && challenge.usedAt === undefined ? contactIn(challenge) : undefined;
    // Before the challenge is used: in between, the code would be lost, and the account still locked.
    if (contact !== undefined) await forgetSignInTries(kv, contact);
    return tried;
  },
  lock: ({ challengeId }) => challenges.row(challengeId),
  write(tx, _, { prepared: tried, locked: challenge, now }) {
    const answered = answer(tx, challenge, tried, "UNLOCK", now);
    return isRejection(answered) ? answered : create(UnlockResponseSchema);
  },
});
