import type { AccountRow } from "../tables.ts";

/** The largest balance that fits a bigint of PostgreSQL and an int64 of Protobuf. */
export const BALANCE_MAX = 2n ** 63n - 1n;

/** One side of a leg: an account with a limit, one of the house without, or none. */
export type Side = { readonly kind: "account"; readonly account: AccountRow } | { readonly kind: "house"; readonly id: string } | undefined;

export type ResolvedLeg = { readonly debit: Side; readonly credit: Side; readonly amount: bigint; readonly currency: string };

export type RejectionReason = "account_not_found" | "same_account" | "currency_mismatch" | "insufficient_funds" | "balance_out_of_range";

export type Posted = {
  /** What each account that moved has now, by its id. */
  readonly balances: ReadonlyMap<string, bigint>;
};

/**
 * Moves money over the legs in their order, all or none. Pure: takes the locked accounts, gives the new balances or the
 * reason why not. A later leg sees what an earlier one left, so a chain may pass money on.
 */
export function post(legs: readonly ResolvedLeg[]): Posted | RejectionReason {
  const balances = new Map<string, bigint>();
  for (const { debit, credit, amount, currency } of legs) {
    if (debit === undefined || credit === undefined) return "account_not_found";
    if (sideId(debit) === sideId(credit)) return "same_account";
    if (!isOf(debit, currency) || !isOf(credit, currency)) return "currency_mismatch";
    if (debit.kind === "account") {
      const left = balanceOf(balances, debit.account) - amount;
      if (left < 0n) return "insufficient_funds";
      balances.set(debit.account.id, left);
    }
    if (credit.kind === "account") {
      const now = balanceOf(balances, credit.account) + amount;
      if (now > BALANCE_MAX) return "balance_out_of_range";
      balances.set(credit.account.id, now);
    }
  }
  return { balances };
}

export const sideId = (side: NonNullable<Side>): string => (side.kind === "account" ? side.account.id : side.id);

const isOf = (side: NonNullable<Side>, currency: string): boolean => side.kind === "house" || side.account.currency === currency;

const balanceOf = (balances: ReadonlyMap<string, bigint>, account: AccountRow): bigint => balances.get(account.id) ?? account.balance;
