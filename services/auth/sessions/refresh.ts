import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { find } from "#platform/reads/query.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { sessions, users } from "../tables.ts";
import { endOneSession, isGood, refreshed, tokensOf } from "./session.ts";
import { tokenMakers } from "./token-makers.ts";

/**
 * Gives the next tokens of a session (RFC 9700, 4.14.2). A refresh token that was used before means that two have it: the session ends,
 * for whoever of them is its owner can sign in again.
 */
export const refresh = operation(AuthService.method.refresh, {
  async prepare({ refreshToken }, { use, sql }) {
    const makers = tokenMakers(use);
    const named = makers.derived.readRefreshToken(refreshToken);
    const session = named === undefined ? undefined : await find(sql, sessions.row(named.sessionId));
    return { makers, named, userId: session?.userId };
  },
  lock: (_, { prepared: { named, userId } }) => ({
    session: named === undefined ? undefined : sessions.row(named.sessionId),
    user: userId === undefined ? undefined : users.row(userId),
  }),
  write(tx, _, { prepared: { makers, named }, locked: { session, user }, origin, now }) {
    if (named === undefined || session === undefined || user === undefined || !isGood(session, user, now))
      return reject("invalid_refresh_token");
    const outcome = refreshed(session, named.generation, origin?.address ?? session.address, now);
    if (outcome.kind === "reused") {
      endOneSession(tx, session, "refresh_token_reused", now);
      return reject("refresh_token_reused", undefined, { keepsWrites: true });
    }
    if (outcome.kind === "next") tx.update(sessions, outcome.session);
    return tokensOf(makers, user, outcome.session, now);
  },
});
