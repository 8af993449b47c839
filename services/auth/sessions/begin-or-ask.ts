import { create } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { type SignInResponse, SignInResponseSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import type { Origin } from "#platform/rpc/origin.ts";
import type { Tx } from "#platform/writes/definitions.ts";
import { pose } from "../codes/challenge.ts";
import { isOn } from "../second-factor/second-factor.ts";
import type { SecondFactorRow, UserRow } from "../tables.ts";
import { beginSession, type TokenMakers, tokensOf } from "./session.ts";

/** What becomes of a user who has shown the first factor: a session, or where there is a second factor a challenge to show that. */
export function beginOrAsk(
  tx: Tx,
  makers: TokenMakers,
  facts: {
    readonly user: UserRow;
    /** Of this user, locked as well. */
    readonly factor: SecondFactorRow | undefined;
    readonly id: string;
    readonly origin: Origin | undefined;
    readonly now: Timestamp;
  },
): SignInResponse {
  const { user, factor, id, origin, now } = facts;
  if (isOn(factor)) {
    const { id: userId, sessionEpoch, locale } = user;
    const about = { purpose: "SECOND_FACTOR", userId, sessionEpoch, email: undefined, phone: undefined, locale } as const;
    const { expiresAt } = pose(tx, { id, ...about, now });
    return create(SignInResponseSchema, { outcome: { case: "secondFactor", value: { challengeId: id, expiresAt } } });
  }
  const session = beginSession(tx, { user, id, origin, secondFactor: false, now });
  return create(SignInResponseSchema, { outcome: { case: "tokens", value: tokensOf(makers, user, session, now) } });
}
