import { create } from "@bufbuild/protobuf";
import { beforeEach, expect, test, vi } from "vitest";
import { CreateOrderRequestSchema, OrderSchema, OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import type { ApplyItem } from "#platform/events/apply.ts";
import type { Database, Statement } from "#platform/postgres/database.ts";
import { operation, type Tx } from "#platform/writes/definitions.ts";
import { anyItem, contextOf, noPeers, outcomeOf, pots, potsDatabase, potsIn, userId, writerOn } from "#platform/writes/pots.testing.ts";

// Somebody who isn't one of ours has rows: a person's SQL, another process that is frozen.

const database = await potsDatabase();
beforeEach(async () => {
  await database.query({ text: "TRUNCATE pots, outbox, inbox" });
  await database.query({ text: "INSERT INTO pots SELECT name, 5, name FROM unnest('{held,held too,held three,free}'::text[]) name" });
});

/** Runs a statement in a transaction that stays open until it is let go. */
async function hold(statement: Statement): Promise<() => Promise<void>> {
  const begun = Promise.withResolvers<void>();
  const end = Promise.withResolvers<void>();
  const holder = database.transaction(async (tx) => {
    await tx.query(statement);
    begun.resolve();
    await end.promise;
  });
  await begun.promise;
  return async () => {
    end.resolve();
    await holder;
  };
}

/** The database, and how many transactions were begun in it. */
function countTransactions(): { readonly counting: Database; transactions(): number } {
  let begun = 0;
  const counting: Database = {
    ...database,
    transaction(run, options) {
      begun += 1;
      return database.transaction(run, options);
    },
  };
  return { counting, transactions: () => begun };
}

const heldRows = { text: "SELECT 1 FROM pots WHERE name LIKE 'held%' FOR UPDATE" };

const putEvent: ApplyItem = {
  ...anyItem,
  parts: { write: (tx: Tx) => tx.insert(pots, { name: "event", amount: 1n, nick: "event" }) },
};

/** What has become of it; undefined while it waits. */
function watch<T>(wanted: Promise<T>): { readonly wanted: Promise<T>; result?: T } {
  const watched: { readonly wanted: Promise<T>; result?: T } = { wanted };
  void wanted.then((result) => {
    watched.result = result;
  });
  return watched;
}

test("commands for rows that somebody holds wait for them, and nobody else does, whether together or one after the other", async () => {
  const writer = writerOn(database);
  const letGo = await hold(heldRows);
  const waiting = ["held", "held too", "held", "held three"].map((pot) => watch(outcomeOf(writer, { pot, amount: 1n })));
  expect(await outcomeOf(writer, { pot: "free", amount: 1n })).toBe("6");
  waiting.push(watch(outcomeOf(writer, { pot: "held", amount: 1n })));
  for (let n = 7; n <= 20; n++) expect(await outcomeOf(writer, { pot: "free", amount: 1n })).toBe(String(n));
  expect(waiting.map(({ result }) => result)).toEqual(Array(5).fill(undefined));
  await letGo();
  expect(await Promise.all(waiting.map(({ wanted }) => wanted))).toEqual(["6", "6", "7", "6", "8"]);
  expect(await potsIn(database)).toEqual({ free: 20n, held: 8n, "held too": 6n, "held three": 6n });
});

test("a consumer's work goes on beside a command whose row somebody holds", async () => {
  const writer = writerOn(database);
  const letGo = await hold(heldRows);
  const waiting = watch(outcomeOf(writer, { pot: "held", amount: 1n }));
  expect(await writer.apply([putEvent], { first: [{ text: "SELECT 1" }], last: () => [] })).toMatchObject([{ kind: "applied" }]);
  expect(waiting.result).toBeUndefined();
  await letGo();
  expect(await waiting.wanted).toBe("6");
});

test("a row that nobody holds is free for others, though a command that waits names it as well", async () => {
  const writer = writerOn(database);
  const letGo = await hold(heldRows);
  const both = operation(OrdersService.method.createOrder, {
    lock: () => [pots.row("free"), pots.row("held")],
    write(tx, _request, { id, locked: [free, held] }) {
      for (const pot of [free, held]) if (pot !== undefined) tx.update(pots, { ...pot, amount: pot.amount + 100n });
      return create(OrderSchema, { id, userId, amount: held?.amount ?? 0n });
    },
  });
  const waiting = watch(writer.execute(both, create(CreateOrderRequestSchema), contextOf(), noPeers));
  for (let n = 6; n <= 15; n++) expect(await outcomeOf(writer, { pot: "free", amount: 1n })).toBe(String(n));
  expect(waiting.result).toBeUndefined();
  await letGo();
  await waiting.wanted;
  expect(await potsIn(database)).toMatchObject({ free: 115n, held: 105n });
});

test("however many rows are held, a consumer's work and a row that is let go wait for none of the others", async () => {
  const writer = writerOn(database);
  await database.query({ text: "INSERT INTO pots SELECT 'held ' || n, 5, 'n' || n FROM generate_series(1, 60) n" });
  const letGo = await hold(heldRows);
  const waiting = Array.from({ length: 60 }, (_, n) => watch(outcomeOf(writer, { pot: `held ${n + 1}`, amount: 1n })));
  const letGoOther = await hold({ text: "SELECT 1 FROM pots WHERE name = 'free' FOR UPDATE" });
  const other = outcomeOf(writer, { pot: "free", amount: 1n });
  await letGoOther();
  expect(await other).toBe("6");
  expect(await writer.apply([putEvent], { first: [{ text: "SELECT 1" }], last: () => [] })).toMatchObject([{ kind: "applied" }]);
  expect(waiting.filter(({ result }) => result !== undefined)).toEqual([]);
  await letGo();
  expect(new Set(await Promise.all(waiting.map(({ wanted }) => wanted)))).toEqual(new Set(["6"]));
});

test("a command that the database refuses to look for fails alone, also beside one whose row is held", async () => {
  const writer = writerOn(database);
  const letGo = await hold(heldRows);
  const waiting = watch(outcomeOf(writer, { pot: "held", amount: 1n }));
  const [bad, free] = await Promise.all([
    outcomeOf(writer, { pot: "no text has \u0000", amount: 1n }),
    outcomeOf(writer, { pot: "free", amount: 1n }),
  ]);
  expect([bad, free]).toEqual(["failed: error", "6"]);
  await letGo();
  expect(await waiting.wanted).toBe("6");
});

test("a row that is held for too long fails those alone who want it, and is free for the next", async () => {
  const writer = writerOn(database, { heldMaxMs: 0 });
  const letGo = await hold(heldRows);
  const [held, free] = await Promise.all(["held", "free"].map((pot) => outcomeOf(writer, { pot, amount: 1n })));
  expect([held, free]).toEqual(["failed: CallError", "6"]);
  await letGo();
  expect(await outcomeOf(writer, { pot: "held", amount: 1n })).toBe("6");
});

test("a table that is locked meanwhile fails nobody who waits for one of its rows", async () => {
  const { counting, transactions } = countTransactions();
  const writer = writerOn(counting);
  const letGo = await hold(heldRows);
  const waiting = watch(outcomeOf(writer, { pot: "held", amount: 1n }));
  // It waits apart by then: others go on.
  expect(await outcomeOf(writer, { pot: "free", amount: 1n })).toBe("6");
  const locking = hold({ text: "LOCK TABLE pots IN ACCESS EXCLUSIVE MODE" });
  await letGo();
  const letGoTable = await locking;
  const before = transactions();
  await vi.waitFor(() => expect(transactions()).toBeGreaterThan(before + 3), { timeout: 4_000 });
  expect(waiting.result).toBeUndefined();
  await letGoTable();
  expect(await waiting.wanted).toBe("6");
});

test("who is past its deadline waits for no row any more", async () => {
  const writer = writerOn(database);
  const letGo = await hold(heldRows);
  const late = outcomeOf(writer, { pot: "held", amount: 1n }, contextOf({ deadlineMs: Date.now() + 600 }));
  expect(await late).toBe("failed: CallError");
  await letGo();
  expect(await outcomeOf(writer, { pot: "held", amount: 1n })).toBe("6");
});

test("commands for a key that somebody is about to insert keep nobody else waiting", async () => {
  const writer = writerOn(database);
  const letGo = await hold({ text: "INSERT INTO pots VALUES ('new', 1, 'new')" });
  const waiting = Array.from({ length: 50 }, () => watch(outcomeOf(writer, { pot: "new", amount: 1n })));
  const others = Array.from({ length: 20 }, (_, n) => outcomeOf(writer, { pot: `other ${n}`, amount: 1n }));
  expect(new Set(await Promise.all([...others, outcomeOf(writer, { pot: "free", amount: 1n })]))).toEqual(new Set(["1", "6"]));
  expect(waiting.filter(({ result }) => result !== undefined)).toEqual([]);
  await letGo();
  expect(await Promise.all(waiting.map(({ wanted }) => wanted))).toEqual(Array.from({ length: 50 }, (_, n) => String(n + 2)));
});

test("a table that somebody has locked keeps its commands waiting until it is let go", async () => {
  const { counting, transactions } = countTransactions();
  const writer = writerOn(counting);
  const letGo = await hold({ text: "LOCK TABLE pots IN SHARE MODE" });
  const waiting = ["free", "held", "free"].map((pot) => watch(outcomeOf(writer, { pot, amount: 1n })));
  // Together, a look at who has the rows, and each row apart.
  await vi.waitFor(() => expect(transactions()).toBeGreaterThan(4), { timeout: 4_000 });
  expect(waiting.map(({ result }) => result)).toEqual([undefined, undefined, undefined]);
  await letGo();
  expect(await Promise.all(waiting.map(({ wanted }) => wanted))).toEqual(["6", "6", "7"]);
});
