import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { SignInFailedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { find } from "#platform/reads/query.ts";
import { isRejection, reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { answer } from "../codes/challenge.ts";
import { beginSession, tokensOf } from "../sessions/session.ts";
import { tokenMakers } from "../sessions/token-makers.ts";
import { type ChallengeRow, challenges, secondFactors, users } from "../tables.ts";
import { accept } from "./second-factor.ts";
import { secondFactorSecrets } from "./second-factor-secrets.ts";
import { tellOfRecoveryCode } from "./tell-of-change.ts";
import { trySecondFactor } from "./try-second-factor.ts";

/** Begins the session of who has shown the password, or a code that was sent, and now the second factor. */
export const signInWithSecondFactor = operation(AuthService.method.signInWithSecondFactor, {
  async prepare({ challengeId, code }, context) {
    const { use, sql, now } = context;
    const secrets = use(secondFactorSecrets);
    const userId = whoseSecondFactor(await find(sql, challenges.row(challengeId)));
    const refused = await trySecondFactor(context, { userId, challengeId }, (factor) => accept(secrets, factor, code, now) !== undefined);
    return { refused, secrets, userId, makers: tokenMakers(use) };
  },
  lock: ({ challengeId }, { prepared: { userId } }) => ({
    challenge: challenges.row(challengeId),
    user: userId === undefined ? undefined : users.row(userId),
    factor: userId === undefined ? undefined : secondFactors.row(userId),
  }),
  write(tx, { code }, context) {
    const { prepared, locked, origin, id, now } = context;
    const { challenge, user, factor } = locked;
    if (prepared.refused !== undefined) return prepared.refused;
    if (user?.status === "BLOCKED") return reject("account_blocked");
    // Asked for by a password of before, or before all sessions were ended: too late.
    const isFitting = user?.status === "ACTIVE" && challenge?.sessionEpoch === user.sessionEpoch;
    if (!isFitting || factor === undefined) return reject("invalid_code");
    const accepted = accept(prepared.secrets, factor, code, now);
    const answered = answer(tx, challenge, { refused: undefined, isRight: accepted !== undefined }, "SECOND_FACTOR", now);
    if (isRejection(answered) || accepted === undefined) {
      tx.publish(SignInFailedSchema, { userId: user.id, isKnown: true, address: origin?.address ?? "", device: origin?.userAgent ?? "" });
      return reject("invalid_code", undefined, { keepsWrites: true });
    }
    tx.update(secondFactors, accepted.factor);
    tellOfRecoveryCode(tx, user, accepted, context);
    const session = beginSession(tx, { user, id, origin, secondFactor: true, now });
    return tokensOf(prepared.makers, user, session, now);
  },
});

const whoseSecondFactor = (challenge: ChallengeRow | undefined): string | undefined =>
  challenge?.purpose === "SECOND_FACTOR" ? challenge.userId : undefined;
