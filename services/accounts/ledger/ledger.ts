import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { AccountRow, HouseAccount } from "../tables.ts";

/** The largest balance that fits a bigint of PostgreSQL and an int64 of Protobuf. */
export const BALANCE_MAX = 2n ** 63n - 1n;

/** One side of a leg: an account with a limit, one of the house without, or none. */
export type Side =
  | { readonly kind: "account"; readonly account: AccountRow }
  | { readonly kind: "house"; readonly account: HouseAccount }
  | undefined;

export type ResolvedLeg = { readonly debit: Side; readonly credit: Side; readonly amount: bigint; readonly currency: string };

export type RejectionReason = "account_not_found" | "same_account" | "currency_mismatch" | "insufficient_funds" | "balance_out_of_range";

export type Posted = {
  /** The accounts that moved, as they are now. */
  readonly moved: Iterable<AccountRow>;
};

/**
 * Moves money over the legs in their order, all or none. Pure: takes the locked accounts, gives them with their new balances
 * or the reason why not. A later leg sees what an earlier one left, so a chain may pass money on.
 */
export function post(legs: readonly ResolvedLeg[], now: Timestamp): Posted | RejectionReason {
  const moved = new Map<string, AccountRow>();
  for (const { debit, credit, amount, currency } of legs) {
    if (debit === undefined || credit === undefined) return "account_not_found";
    if (debit.account.id === credit.account.id) return "same_account";
    if (!isOf(debit, currency) || !isOf(credit, currency)) return "currency_mismatch";
    if (debit.kind === "account") {
      const { account } = debit;
      const left = (moved.get(account.id) ?? account).balance - amount;
      if (left < 0n) return "insufficient_funds";
      moved.set(account.id, { ...account, balance: left, updatedAt: now });
    }
    if (credit.kind === "account") {
      const { account } = credit;
      const sum = (moved.get(account.id) ?? account).balance + amount;
      if (sum > BALANCE_MAX) return "balance_out_of_range";
      moved.set(account.id, { ...account, balance: sum, updatedAt: now });
    }
  }
  return { moved: moved.values() };
}

const isOf = ({ account }: NonNullable<Side>, currency: string): boolean => account.currency === currency;
