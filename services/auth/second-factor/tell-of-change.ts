import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { SecondFactorChangedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { type Caller, callerName } from "#platform/access/caller.ts";
import type { Origin } from "#platform/rpc/origin.ts";
import type { Tx } from "#platform/writes/definitions.ts";
import { changeParams } from "../letters/change-params.ts";
import { tellOwner } from "../letters/letter.ts";
import type { UserRow } from "../tables.ts";
import { type Accepted, recoveryCodesLeft } from "./second-factor.ts";

type Change = "turned_on" | "turned_off" | "reset" | "recovery_codes_replaced" | "recovery_code_used";

/** Who, from where and when. */
export type Occasion = { readonly caller: Caller; readonly origin?: Origin | undefined; readonly now: Timestamp };

export const publishChange = (tx: Tx, userId: string, change: Change, { caller }: Pick<Occasion, "caller">): void =>
  tx.publish(SecondFactorChangedSchema, { userId, change, on: change !== "turned_off" && change !== "reset", by: callerName(caller) });

/** Publishes that it was turned on or off, and tells the owner. */
export function tellOfSwitch(tx: Tx, user: UserRow, change: "turned_on" | "turned_off" | "reset", occasion: Occasion): void {
  publishChange(tx, user.id, change, occasion);
  // Where an admin sits is none of the owner's business.
  const origin = change === "reset" ? undefined : occasion.origin;
  tellOwner(tx, user, change === "turned_on" ? "second-factor-on" : "second-factor-off", changeParams(origin, occasion.now));
}

/** The same of a recovery code, where that was the code: somebody may have found the list of them. */
export function tellOfRecoveryCode(tx: Tx, user: UserRow, { factor, isRecoveryCode }: Accepted, occasion: Occasion): void {
  if (!isRecoveryCode) return;
  publishChange(tx, user.id, "recovery_code_used", occasion);
  const left = String(recoveryCodesLeft(factor));
  tellOwner(tx, user, "recovery-code-used", { ...changeParams(occasion.origin, occasion.now), left });
}
