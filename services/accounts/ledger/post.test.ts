import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  type AccountRefSchema,
  AccountsService,
  type LegSchema,
  type Posting,
  Posting_Outcome,
} from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { serviceCaller, userCaller } from "#platform/access/caller.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { accountsService } from "../service.ts";

const services = await testServices(accountsService);
const ledger = services.client(AccountsService, serviceCaller("payments"));
/** The same, as a second process on the same database answers. */
const other = (await services.copy()).client(AccountsService, serviceCaller("payments"));
const auditor = services.client(AccountsService, userCaller(randomUUID(), { roles: ["auditor"] }));

const { POSTED, REJECTED, VOIDED } = Posting_Outcome;
const MAX = 2n ** 63n - 1n;

type Ref = MessageInitShape<typeof AccountRefSchema>;
type Leg = MessageInitShape<typeof LegSchema>;
type Wanted = { postingId: string; legs: Leg[]; referenceOrderId?: string };
const of = (accountId: string): Ref => ({ account: { case: "accountId", value: accountId } });
const house = (name: string): Ref => ({ account: { case: "house", value: name } });
const owner = (userId: string, kind = ""): Ref => ({ account: { case: "owner", value: { userId, kind } } });
const leg = (debit: Ref, credit: Ref, amount: bigint, currency = "RUB"): Leg => ({ debit, credit, amount, currency });
const request = (...legs: Leg[]): Wanted => ({ postingId: randomUUID(), legs });

/** A customer with so much on the account. */
async function customer(balance = 0n, currency = "RUB") {
  const userId = randomUUID();
  const client = services.client(AccountsService, userCaller(userId));
  const { id } = await client.openAccount({ currency });
  if (balance > 0n) await ledger.post(request(leg(house("world"), of(id), balance, currency)));
  return {
    id,
    userId,
    balance: async () => (await client.getAccount({ accountId: id })).balance,
    transactions: async () => (await client.listTransactions({ accountId: id })).transactions,
  };
}

const legsOf = ({ legs }: Posting) => legs.map(({ debitAccountId, creditAccountId, amount }) => [debitAccountId, creditAccountId, amount]);

test("money moves once under an id, however often and from wherever it is asked for, also all at once", async () => {
  const [a, b] = [await customer(100n), await customer()];
  const wanted = request(leg(of(a.id), of(b.id), 30n));
  const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? ledger : other).post(wanted)));
  expect(answers[0]).toMatchObject({ id: wanted.postingId, outcome: POSTED, legs: [{ id: wanted.postingId, amount: 30n }] });
  for (const answer of answers) expect(answer).toEqual(answers[0]);
  expect(await ledger.post({ ...wanted, postingId: wanted.postingId.toUpperCase() })).toEqual(answers[0]);
  expect([await a.balance(), await b.balance()]).toEqual([70n, 30n]);
  expect(await b.transactions()).toMatchObject([{ id: wanted.postingId, amount: 30n }]);
});

test("under a taken id nothing else can be posted: no other legs, amount, currency, account or reference", async () => {
  const [a, b, c] = [await customer(100n), await customer(100n), await customer(100n)];
  const wanted = { ...request(leg(of(a.id), of(b.id), 10n)), referenceOrderId: randomUUID() };
  const first = await ledger.post(wanted);
  const otherLegs = {
    "one more leg": [leg(of(a.id), of(b.id), 10n), leg(of(a.id), of(b.id), 10n)],
    "the other way": [leg(of(b.id), of(a.id), 10n)],
    "another amount": [leg(of(a.id), of(b.id), 11n)],
    "another currency": [leg(of(a.id), of(b.id), 10n, "USD")],
    "another debit": [leg(of(c.id), of(b.id), 10n)],
    "another credit": [leg(of(a.id), of(c.id), 10n)],
    "a house instead": [leg(of(a.id), house("sales"), 10n)],
  };
  const { referenceOrderId: _, ...unreferenced } = wanted;
  const others: [string, Wanted][] = [
    ...Object.entries(otherLegs).map(([what, legs]): [string, Wanted] => [what, { ...wanted, legs }]),
    ["another reference", { ...wanted, referenceOrderId: randomUUID() }],
    ["no reference", unreferenced],
  ];
  for (const [what, another] of others)
    await expect(ledger.post(another), what).rejects.toMatchObject({ status: "ALREADY_EXISTS", code: "posting_id_reused" });
  expect(await ledger.post(wanted)).toEqual(first);
  expect([await a.balance(), await b.balance(), await c.balance()]).toEqual([90n, 110n, 100n]);
});

test("a rejected posting stays rejected under its id, though the money came in since", async () => {
  const a = await customer(9n);
  const wanted = request(leg(of(a.id), house("sales"), 10n));
  const first = await ledger.post(wanted);
  expect(first).toMatchObject({ outcome: REJECTED, reason: "insufficient_funds", legs: [] });
  await ledger.post(request(leg(house("world"), of(a.id), 100n)));
  expect(await ledger.post(wanted)).toEqual(first);
  expect(await a.balance()).toBe(109n);
  expect(await ledger.post({ ...wanted, postingId: randomUUID() })).toMatchObject({ outcome: POSTED });
  await expect(ledger.post({ ...wanted, legs: [leg(of(a.id), house("sales"), 1n)] })).rejects.toMatchObject({ code: "posting_id_reused" });
});

test("linked legs move all or none, and a later one spends what an earlier one brought", async () => {
  const [a, b, c] = [await customer(10n), await customer(), await customer()];
  const chain = (last: bigint) => request(leg(of(a.id), of(b.id), 10n), leg(of(b.id), of(c.id), last));
  expect(await ledger.post(chain(11n))).toMatchObject({ outcome: REJECTED, reason: "insufficient_funds", legs: [] });
  expect(await ledger.post(request(leg(of(a.id), of(b.id), 1n), leg(of(b.id), of(randomUUID()), 1n)))).toMatchObject({
    outcome: REJECTED,
    reason: "account_not_found",
  });
  expect([await a.balance(), await b.balance(), await c.balance()]).toEqual([10n, 0n, 0n]);
  expect((await ledger.post(chain(10n))).outcome).toBe(POSTED);
  expect([await a.balance(), await b.balance(), await c.balance()]).toEqual([0n, 0n, 10n]);
});

test("a posting of many legs is told with the same legs to every repeat, in their order, and to who voids it", async () => {
  const [a, b] = [await customer(10_000n), await customer()];
  const wanted = request(...Array.from({ length: 64 }, (_, i) => leg(of(a.id), of(b.id), BigInt(i + 1))));
  const first = await ledger.post(wanted);
  expect(legsOf(first)).toEqual(Array.from({ length: 64 }, (_, i) => [a.id, b.id, BigInt(i + 1)]));
  expect(new Set(first.legs.map(({ id }) => id)).size).toBe(64);
  expect(await other.post(wanted)).toEqual(first);
  expect(await ledger.void({ postingId: wanted.postingId })).toEqual(first);
  expect(await b.balance()).toBe(2080n);
});

test("a voided id is claimed for good: what comes later is answered VOIDED and moves nothing", async () => {
  const a = await customer(10n);
  const wanted = request(leg(of(a.id), house("sales"), 10n), leg(house("world"), of(a.id), 5n));
  const first = await ledger.void(wanted);
  expect(first).toMatchObject({ id: wanted.postingId, outcome: VOIDED, legs: [] });
  expect(await ledger.post(wanted)).toEqual(first);
  expect(await other.post({ ...wanted, legs: [leg(of(a.id), house("sales"), 1n)] })).toEqual(first);
  expect(await other.void(wanted)).toEqual(first);
  expect(await a.balance()).toBe(10n);
});

test("to void what was posted takes nothing back, and to void what was rejected tells the rejection", async () => {
  const a = await customer(10n);
  const [posted, rejected] = [request(leg(of(a.id), house("sales"), 10n)), request(leg(of(a.id), house("sales"), 11n))];
  const answers = [await ledger.post(posted), await ledger.post(rejected)];
  expect(answers).toMatchObject([{ outcome: POSTED }, { outcome: REJECTED }]);
  expect([await ledger.void(posted), await ledger.void(rejected)]).toEqual(answers);
  expect(await a.balance()).toBe(0n);
  expect((await a.transactions()).map(({ id }) => id)).toContain(posted.postingId);
});

test("of a post and a void of one id at once exactly one wins, and both are told which", async () => {
  const a = await customer(1_000n);
  const outcomes = await Promise.all(
    Array.from({ length: 50 }, async (_, i) => {
      const wanted = request(leg(of(a.id), house("sales"), 1n));
      // From one process, whichever is asked for first wins; from two, nobody knows.
      const voiding = i % 3 === 0 ? ledger : other;
      const sends = [() => ledger.post(wanted), () => voiding.void(wanted)];
      if (i % 2 === 0) sends.reverse();
      const answers = (await Promise.all(sends.map((send) => send()))) as [Posting, Posting];
      expect(answers[1]).toEqual(answers[0]);
      expect(await ledger.void(wanted)).toEqual(answers[0]);
      return answers[0].outcome;
    }),
  );
  expect(new Set(outcomes)).toEqual(new Set([POSTED, VOIDED]));
  expect(await a.balance()).toBe(1_000n - BigInt(outcomes.filter((outcome) => outcome === POSTED).length));
});

test("two processes that debit one account at once never overdraw it", async () => {
  const a = await customer(20n);
  const wanted = Array.from({ length: 60 }, () => request(leg(of(a.id), house("sales"), 1n)));
  const answers = await Promise.all(wanted.map((one, i) => (i % 2 === 0 ? ledger : other).post(one)));
  expect(answers.filter(({ outcome }) => outcome === POSTED)).toHaveLength(20);
  expect(new Set(answers.filter(({ outcome }) => outcome === REJECTED).map(({ reason }) => reason))).toEqual(
    new Set(["insufficient_funds"]),
  );
  expect(await a.balance()).toBe(0n);
});

test("a balance reaches 2^63-1 and not one more, while the house's accounts have no limit", async () => {
  const [a, b] = [await customer(MAX - 1n, "JPY"), await customer(MAX, "JPY")];
  const add = (id: string, amount: bigint) => ledger.post(request(leg(house("world"), of(id), amount, "JPY")));
  expect(await add(a.id, 2n)).toMatchObject({ outcome: REJECTED, reason: "balance_out_of_range" });
  expect((await add(a.id, 1n)).outcome).toBe(POSTED);
  for (const { id } of [a, b]) expect((await ledger.post(request(leg(of(id), house("sales"), MAX, "JPY")))).outcome).toBe(POSTED);
  expect((await add(b.id, MAX)).outcome).toBe(POSTED);
  expect([await a.balance(), await b.balance()]).toEqual([0n, MAX]);
  // `world` owes three times what fits a balance, and the books still sum.
  expect(await auditor.checkBooks({})).toMatchObject({ balanced: true, faults: [] });
});

test("an owner stands for the account of a kind that allows one, and for none where there is none", async () => {
  const a = await customer();
  expect(legsOf(await ledger.post(request(leg(house("world"), owner(a.userId.toUpperCase()), 5n))))).toEqual([
    [expect.any(String), a.id, 5n],
  ]);
  expect((await ledger.post(request(leg(owner(a.userId, "current"), house("sales"), 2n)))).outcome).toBe(POSTED);
  expect(await a.balance()).toBe(3n);
  const refused = { outcome: REJECTED, reason: "account_not_found" };
  expect(await ledger.post(request(leg(owner(a.userId, "savings"), house("sales"), 1n)))).toMatchObject(refused);
  expect(await ledger.post(request(leg(owner(randomUUID()), house("sales"), 1n)))).toMatchObject(refused);
  expect(await ledger.post(request(leg(owner(a.userId), house("sales"), 1n, "USD")))).toMatchObject({ reason: "currency_mismatch" });
  expect(await ledger.post(request(leg(owner(a.userId), of(a.id), 1n)))).toMatchObject({ reason: "same_account" });
});
