import { AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { operation } from "#platform/writes/definitions.ts";
import { postings } from "../tables.ts";
import { LEGS_MAX, legId, toPosting, voidedRow } from "./posting.ts";

/** Claims a posting id: what was posted stays and is told, and what was not, never will be. */
export const voidPosting = operation(AccountsService.method.void, {
  // How many legs there are isn't known before they are read, so all that may be are named.
  lock: ({ postingId }) => Array.from({ length: LEGS_MAX }, (_, leg) => postings.row(legId(postingId, leg))),
  write(tx, { postingId }, { now, locked }) {
    const [first, ...others] = locked;
    if (first !== undefined) return toPosting([first, ...others.filter((row) => row !== undefined)]);
    const row = voidedRow(postingId, now);
    tx.insert(postings, row);
    return toPosting([row]);
  },
});
