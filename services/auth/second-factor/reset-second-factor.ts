import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { callingUser } from "#platform/access/caller.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { forgetSecondFactorTries } from "../limits.ts";
import { endAllSessions } from "../sessions/session.ts";
import { secondFactors, users } from "../tables.ts";
import { toUser } from "../users/user.ts";
import { isOn, turnedOff } from "./second-factor.ts";
import { tellOfSwitch } from "./tell-of-change.ts";

/** Turns the second factor of somebody off who has lost it; the password is asked for as before. Who resets vouches for who asked. */
export const resetSecondFactor = operation(AuthService.method.resetSecondFactor, {
  // Whoever guessed at the one of before has locked the account for the next one as well.
  prepare: ({ userId }, { kv }) => forgetSecondFactorTries(kv, userId),
  lock: ({ userId }) => ({ user: users.row(userId), factor: secondFactors.row(userId) }),
  write(tx, _, context) {
    const { caller, locked, now } = context;
    const { user, factor } = locked;
    if (user === undefined || user.status === "DELETED") return reject("not_found");
    if (callingUser(caller)?.userId === user.id) return reject("own_account");
    if (!isOn(factor)) return toUser(user, factor);
    const after = endAllSessions(tx, user, { reason: "second_factor_off", now });
    const off = turnedOff(factor);
    tx.update(secondFactors, off);
    tellOfSwitch(tx, after, "reset", context);
    return toUser(after, off);
  },
});
