import { find } from "#platform/reads/query.ts";
import type { Rejection } from "#platform/rejection.ts";
import type { PrepareContext } from "#platform/writes/definitions.ts";
import { forgetSecondFactorTries, noteFailure, takeSecondFactorTry } from "../limits.ts";
import { type SecondFactorRow, secondFactors } from "../tables.ts";

type Ground = Pick<PrepareContext, "kv" | "sql" | "origin">;

/**
 * Takes a try for a code before anything is compared, of the account's and, where it answers one, of the challenge's. The account's are
 * forgotten for a code that is right; whether it still is when the row is locked, `write` decides.
 */
export async function trySecondFactor(
  { kv, sql, origin }: Ground,
  whose: { readonly userId: string | undefined; readonly challengeId?: string },
  isRight: (factor: SecondFactorRow) => boolean,
): Promise<Rejection | undefined> {
  const { userId } = whose;
  const refused = await takeSecondFactorTry(kv, whose, origin);
  if (refused !== undefined) return refused;
  const factor = userId === undefined ? undefined : await find(sql, secondFactors.row(userId));
  if (userId !== undefined && factor !== undefined && isRight(factor)) await forgetSecondFactorTries(kv, userId);
  else await noteFailure(kv);
  return undefined;
}
