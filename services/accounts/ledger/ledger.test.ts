import fc from "fast-check";
import { expect, test } from "vitest";
import type { AccountRow } from "../tables.ts";
import { BALANCE_MAX, type Posted, post as postAt, type RejectionReason, type ResolvedLeg, type Side } from "./ledger.ts";

const now = { $typeName: "google.protobuf.Timestamp" as const, seconds: 0n, nanos: 0 };
const account = (id: string, balance: bigint, currency = "RUB"): Side => ({
  kind: "account",
  account: { id, balance, currency, userId: id, kind: "current", ownerKey: undefined, createdAt: now, updatedAt: now } satisfies AccountRow,
});
const house = (name: string, currency = "RUB"): Side => ({ kind: "house", account: { id: name, name, currency } });
const leg = (debit: Side, credit: Side, amount: bigint, currency = "RUB"): ResolvedLeg => ({ debit, credit, amount, currency });
const post = (legs: readonly ResolvedLeg[]) => postAt(legs, now);
const balances = (outcome: Posted | RejectionReason) =>
  typeof outcome === "string" ? outcome : Object.fromEntries([...outcome.moved].map(({ id, balance }) => [id, balance]));

test("money leaves one account and reaches the other", () => {
  expect(balances(post([leg(account("a", 10n), account("b", 1n), 10n)]))).toEqual({ a: 0n, b: 11n });
});

test("one unit more than there is is refused", () => {
  expect(post([leg(account("a", 10n), account("b", 1n), 11n)])).toBe("insufficient_funds");
});

test("accounts of the house have no limit and no stored balance", () => {
  expect(balances(post([leg(house("world"), account("b", 1n), 2n ** 62n)]))).toEqual({ b: 2n ** 62n + 1n });
});

test("a balance reaches the largest bigint and not one more", () => {
  expect(balances(post([leg(house("world"), account("b", 1n), BALANCE_MAX - 1n)]))).toEqual({ b: BALANCE_MAX });
  expect(post([leg(house("world"), account("b", 1n), BALANCE_MAX)])).toBe("balance_out_of_range");
});

test("a chain passes money on: a later leg spends what an earlier one brought", () => {
  const [a, b, c] = [account("a", 10n), account("b", 0n), account("c", 0n)];
  expect(balances(post([leg(a, b, 10n), leg(b, c, 10n)]))).toEqual({ a: 0n, b: 0n, c: 10n });
});

test("a chain that fails in its last leg changes nothing", () => {
  const [a, b, c] = [account("a", 10n), account("b", 0n), account("c", 0n)];
  expect(post([leg(a, b, 10n), leg(b, c, 11n)])).toBe("insufficient_funds");
});

test("an account that isn't there, the same on both sides and another currency each have their name", () => {
  const a = account("a", 10n);
  expect(post([leg(undefined, a, 1n)])).toBe("account_not_found");
  expect(post([leg(a, undefined, 1n)])).toBe("account_not_found");
  expect(post([leg(a, a, 1n)])).toBe("same_account");
  expect(post([leg(a, account("b", 0n, "USD"), 1n)])).toBe("currency_mismatch");
  expect(post([leg(a, account("b", 0n), 1n, "USD")])).toBe("currency_mismatch");
});

test("whatever is posted, money is neither made nor lost, and no account goes below zero", () => {
  const ids = ["a", "b", "c", "d"];
  const legs = fc.array(fc.record({ debit: fc.constantFrom(...ids), credit: fc.constantFrom(...ids), amount: fc.bigInt(1n, 30n) }), {
    minLength: 1,
    maxLength: 8,
  });
  fc.assert(
    fc.property(fc.tuple(...ids.map(() => fc.bigInt(0n, 40n))), legs, (start, wanted) => {
      const sides = new Map(ids.map((id, i) => [id, account(id, start[i] as bigint)]));
      const outcome = post(wanted.map(({ debit, credit, amount }) => leg(sides.get(debit), sides.get(credit), amount)));
      if (typeof outcome === "string") return;
      const moved = new Map([...outcome.moved].map(({ id, balance }) => [id, balance]));
      const after = ids.map((id, i) => moved.get(id) ?? (start[i] as bigint));
      expect(after.every((balance) => balance >= 0n)).toBe(true);
      expect(after.reduce((a, b) => a + b, 0n)).toBe(start.reduce((a, b) => a + b, 0n));
    }),
  );
});
