import { beforeEach, expect, test } from "vitest";
import type { ApplyItem } from "#platform/events/apply.ts";
import type { Statement } from "#platform/postgres/database.ts";
import type { Tx } from "#platform/writes/definitions.ts";
import { anyItem, contextOf, outcomeOf, pots, potsDatabase, potsIn, writerOn } from "#platform/writes/testing.ts";

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

const heldRows = { text: "SELECT 1 FROM pots WHERE name LIKE 'held%' FOR UPDATE" };

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
  const put: ApplyItem = { ...anyItem, parts: { write: (tx: Tx) => tx.insert(pots, { name: "event", amount: 1n, nick: "event" }) } };
  expect(await writer.apply([put], { first: [{ text: "SELECT 1" }], last: () => [] })).toMatchObject([{ kind: "applied" }]);
  expect(waiting.result).toBeUndefined();
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

test("who is past its deadline waits for no row any more", async () => {
  const writer = writerOn(database);
  const letGo = await hold(heldRows);
  const late = outcomeOf(writer, { pot: "held", amount: 1n }, contextOf({ deadlineMs: Date.now() + 600 }));
  expect(await late).toBe("failed: CallError");
  await letGo();
  expect(await outcomeOf(writer, { pot: "held", amount: 1n })).toBe("6");
});

test("a key that somebody is about to insert keeps those alone waiting who want it", async () => {
  const writer = writerOn(database);
  const letGo = await hold({ text: "INSERT INTO pots VALUES ('new', 1, 'new')" });
  const waiting = watch(outcomeOf(writer, { pot: "new", amount: 1n }));
  expect(await Promise.all([outcomeOf(writer, { pot: "free", amount: 1n }), outcomeOf(writer, { pot: "held", amount: 1n })])).toEqual([
    "6",
    "6",
  ]);
  expect(waiting.result).toBeUndefined();
  await letGo();
  expect(await waiting.wanted).toBe("2");
});
