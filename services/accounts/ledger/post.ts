import { strict as assert } from "node:assert";
import { type AccountRef, AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { derivedUuid } from "#platform/ids.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import type { Ref } from "#platform/writes/table.ts";
import { DEFAULT_KIND, ownerKey } from "../accounts/account.ts";
import { type AccountRow, accounts, type HouseAccount, houseAccounts, type PostingRow, postings } from "../tables.ts";
import { post as decide, type ResolvedLeg, type Side } from "./ledger.ts";
import { contentOf, legId, postedRows, rejectedRow, toPosting } from "./posting.ts";

/** Moves money under a business id: once, all legs or none; what the books refuse is kept under the id as well. */
export const post = operation(AccountsService.method.post, {
  lock: ({ postingId, legs }) => ({
    earlier: legs.map((_, leg) => postings.row(legId(postingId, leg))),
    debits: legs.map(({ debit }) => rowOf(debit)),
    credits: legs.map(({ credit }) => rowOf(credit)),
  }),
  write(tx, request, { now, locked: { earlier, debits, credits } }) {
    const [first] = earlier;
    if (first !== undefined) {
      if (first.outcome !== "VOIDED" && first.content !== contentOf(request)) return reject("posting_id_reused");
      return toPosting([first, ...earlier.slice(1).filter(isThere)]);
    }
    const legs = request.legs.map(
      ({ debit, credit, amount, currency }, leg): ResolvedLeg => ({
        debit: sideOf(debit, debits[leg], currency),
        credit: sideOf(credit, credits[leg], currency),
        amount,
        currency,
      }),
    );
    const outcome = decide(legs, now);
    const rows = typeof outcome === "string" ? [rejectedRow(request, outcome, now)] : postedRows(request, legs, now);
    for (const row of rows) tx.insert(postings, row);
    if (typeof outcome !== "string") {
      for (const account of outcome.moved) tx.update(accounts, account);
      for (const { debit, credit } of legs)
        for (const side of [debit, credit]) if (side?.kind === "house") tx.ensure(houseAccounts, side.account);
    }
    return toPosting(rows as [PostingRow]);
  },
});

/** An account of the house has no row to lock: nothing about it decides. */
function rowOf(ref: AccountRef | undefined): Ref<AccountRow> | undefined {
  switch (ref?.account.case) {
    case "accountId":
      return accounts.row(ref.account.value);
    case "owner":
      return accounts.rowBy("ownerKey", ownerKey(ref.account.value.userId, ref.account.value.kind || DEFAULT_KIND));
    default:
      return undefined;
  }
}

function sideOf(ref: AccountRef | undefined, account: AccountRow | undefined, currency: string): Side {
  assert(ref !== undefined, "validation lets no leg through without its accounts");
  if (ref.account.case === "house") return { kind: "house", account: houseAccount(ref.account.value, currency) };
  return account && { kind: "account", account };
}

const houseAccount = (name: string, currency: string): HouseAccount => ({ id: derivedUuid("house", name, currency), name, currency });

const isThere = <T>(value: T | undefined): value is T => value !== undefined;
