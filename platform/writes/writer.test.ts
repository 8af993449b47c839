import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { TransactionSchema } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { CardsService } from "#contracts/polis/cardtest/v1/cardtest_pb.ts";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { CreateOrderRequestSchema, type Order, OrderSchema, OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { PaymentsService, TopUpRequestSchema } from "#contracts/polis/payments/v1/payments_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { noEquipment } from "#platform/equipment.testing.ts";
import type { ApplyItem } from "#platform/events/apply.ts";
import { decodeRecordBatch } from "#platform/events/record-batch.ts";
import type { Database } from "#platform/postgres/database.ts";
import { isGivenUpWaiting, OutcomeUnknown } from "#platform/postgres/errors.ts";
import { reject } from "#platform/rejection.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { operation, runOperation, type Tx } from "#platform/writes/definitions.ts";
import { pruneAnswers } from "#platform/writes/idempotency.ts";
import { manifestOf } from "#platform/writes/manifest.ts";
import {
  anyItem,
  contextOf,
  type Move,
  move,
  noPeers,
  outcomeOf,
  pots,
  potsDatabase,
  potsIn,
  requestOf,
  userId,
  writerOn,
} from "#platform/writes/pots.testing.ts";
import { Writer } from "#platform/writes/writer.ts";

const database = await potsDatabase();
const other = await potsDatabase();

const clean = async (of: Database): Promise<void> => {
  await of.query({ text: "TRUNCATE pots, idempotency, outbox" });
};

const eventsIn = async (of: Database): Promise<string[]> => {
  const { rows } = await of.query<{ records: Buffer }>({ text: "SELECT records FROM outbox ORDER BY id" });
  return rows.flatMap(({ records }) => decodeRecordBatch(records).map(({ eventId }) => eventId));
};

const countOf = async (of: Database, what: string): Promise<bigint> =>
  (await of.query<{ n: bigint }>({ text: `SELECT count(*) AS n FROM ${what}` })).rows[0]?.n ?? -1n;

const request = create(CreateOrderRequestSchema, requestOf({ pot: "a", amount: 5n }));

test("many commands at once share a transaction, and a later one sees what an earlier one left", async () => {
  await clean(database);
  const published = vi.fn();
  const writer = writerOn(database, {}, published);
  const outcomes = await Promise.all(Array.from({ length: 100 }, () => outcomeOf(writer, { pot: "a", amount: 1n })));
  expect(outcomes).toEqual(Array.from({ length: 100 }, (_, i) => String(i + 1)));
  expect(published).toHaveBeenCalledTimes(1);
  expect(await countOf(database, "outbox")).toBe(1n);
  expect(await eventsIn(database)).toHaveLength(100);
});

test("bad items among good ones: the same answers and the same rows as one by one", async () => {
  const moves = fc.array(
    fc.record({
      move: fc.record({
        pot: fc.constantFrom("a", "b", "c", 'd"\\,{}'),
        amount: fc.bigInt(-4n, 4n),
        mode: fc.constantFrom<NonNullable<Move["mode"]>>("", "", "", "fault", "data", "nick"),
      }),
      key: fc.option(fc.constantFrom("k1", "k2", "k3"), { nil: undefined }),
    }),
    { minLength: 1, maxLength: 24 },
  );
  await fc.assert(
    fc.asyncProperty(moves, fc.integer({ min: 1, max: 8 }), async (wanted, batchMax) => {
      await Promise.all([clean(database), clean(other)]);
      const context = (key: string | undefined) => contextOf({ idempotencyKey: key });
      const batched = writerOn(database, { batchMax, inFlightMax: 1 });
      const together = await Promise.all(wanted.map(({ move, key }) => outcomeOf(batched, move, context(key))));
      const single = writerOn(other, { batchMax: 1, inFlightMax: 1 });
      const alone: string[] = [];
      for (const { move, key } of wanted) alone.push(await outcomeOf(single, move, context(key)));
      expect(together).toEqual(alone);
      expect(await potsIn(database)).toEqual(await potsIn(other));
      expect(await eventsIn(database)).toHaveLength((await eventsIn(other)).length);
      expect(await countOf(database, "idempotency")).toBe(await countOf(other, "idempotency"));
    }),
    { numRuns: 40 },
  );
}, 60_000);

test("the same key twenty times at once is one command with one answer, over two writers as well", async () => {
  await clean(database);
  const writers = [writerOn(database), writerOn(database)] as const;
  const context = contextOf({ idempotencyKey: "once" });
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, i) => writers[i % 2 === 0 ? 0 : 1].execute(move, request, context, noPeers) as Promise<Order>),
  );
  expect(new Set(answers.map(({ id }) => id)).size).toBe(1);
  expect(await potsIn(database)).toEqual({ a: 5n });
  expect(await eventsIn(database)).toHaveLength(1);
});

test("another content under the same key is refused, and another caller's key is another key", async () => {
  await clean(database);
  const writer = writerOn(database);
  const context = contextOf({ idempotencyKey: "k" });
  expect(await outcomeOf(writer, { pot: "a", amount: 5n }, context)).toBe("5");
  expect(await outcomeOf(writer, { pot: "a", amount: 6n }, context)).toBe("idempotency_key_reused");
  const somebody = contextOf({ idempotencyKey: "k", caller: userCaller("22222222-2222-4222-8222-222222222222") });
  expect(await outcomeOf(writer, { pot: "a", amount: 6n }, somebody)).toBe("11");
});

test("a rejection is final under its key, a fault is not", async () => {
  await clean(database);
  const writer = writerOn(database);
  const context = contextOf({ idempotencyKey: "poor" });
  expect(await outcomeOf(writer, { pot: "a", amount: -1n }, context)).toBe("insufficient_funds");
  await outcomeOf(writer, { pot: "a", amount: 10n });
  expect(await outcomeOf(writer, { pot: "a", amount: -1n }, context)).toBe("insufficient_funds");
  const later = contextOf({ idempotencyKey: "later" });
  expect(await outcomeOf(writer, { pot: "b", amount: 1n, mode: "fault" }, later)).toBe("failed: Error");
  expect(await outcomeOf(writer, { pot: "b", amount: 1n }, later)).toBe("1");
});

test("a rejection that keeps what its item has written keeps its row and its event, and is as final", async () => {
  await clean(database);
  const writer = writerOn(database);
  const context = contextOf({ idempotencyKey: "kept" });
  const answers = [
    await outcomeOf(writer, { pot: "a", amount: 7n, mode: "kept no" }, context),
    await outcomeOf(writer, { pot: "a", amount: 7n, mode: "kept no" }, context),
    await outcomeOf(writer, { pot: "b", amount: -7n }),
  ];
  expect(answers).toEqual(["insufficient_funds", "insufficient_funds", "insufficient_funds"]);
  expect(await potsIn(database)).toEqual({ a: 7n });
  expect((await database.query({ text: "SELECT FROM outbox" })).rowCount).toBe(1);
});

test("a second row under a unique value is that item's rejection, whether the batch knew the first or the database told", async () => {
  await clean(database);
  const writer = writerOn(database);
  const outcomes = await Promise.all([
    outcomeOf(writer, { pot: "a", amount: 1n, mode: "nick" }),
    outcomeOf(writer, { pot: "b", amount: 1n, mode: "nick" }),
    outcomeOf(writer, { pot: "c", amount: 1n }),
  ]);
  expect(outcomes).toEqual(["1", "nick_taken", "1"]);
  const unnamed = await Promise.all(
    ["d", "e"].map((pot) => outcomeOf(writer, { pot, amount: 1n, mode: pot === "d" ? "unnamed nick" : "" })),
  );
  expect(unnamed).toEqual(["nick_taken", "1"]);
  expect(await potsIn(database)).toEqual({ a: 1n, c: 1n, e: 1n });
});

test("what is past its deadline or given up is dropped before its batch", async () => {
  await clean(database);
  const writer = writerOn(database);
  const late = writer.execute(move, request, contextOf({ deadlineMs: Date.now() - 1 }), noPeers);
  const gone = writer.execute(move, request, contextOf({ cancelled: true }), noPeers);
  await expect(late).rejects.toMatchObject({ status: "DEADLINE_EXCEEDED" });
  await expect(gone).rejects.toMatchObject({ status: "CANCELLED" });
  expect(await potsIn(database)).toEqual({});
});

test("past the bound of what may wait, the caller is told to try later", async () => {
  await clean(database);
  const writer = writerOn(database, { waitingMax: 2, batchMax: 1, inFlightMax: 1 });
  const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => writer.execute(move, request, contextOf(), noPeers)));
  expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected", "rejected", "rejected"]);
  expect((outcomes[4] as PromiseRejectedResult).reason).toMatchObject({ status: "RESOURCE_EXHAUSTED", retryAfterMs: 1000 });
});

test("a row that wasn't named in lock can't be changed", async () => {
  await clean(database);
  const writer = writerOn(database);
  await outcomeOf(writer, { pot: "a", amount: 1n });
  const sly = operation(OrdersService.method.createOrder, {
    write(tx) {
      tx.update(pots, { name: "a", amount: 1000n, nick: "sly" });
      return create(OrderSchema);
    },
  });
  await expect(writer.execute(sly, request, contextOf(), noPeers)).rejects.toThrow(/wasn't named in `lock`/);
  expect(await potsIn(database)).toEqual({ a: 1n });
});

test("prepare runs outside any transaction, and never for a repeat that is known", async () => {
  await clean(database);
  const writer = writerOn(database);
  const prepared = vi.fn(async () => 7n);
  const withPrepare = operation(OrdersService.method.createOrder, {
    prepare: prepared,
    lock: (_, { prepared: amount }) => pots.row(`pot ${amount}`),
    write(tx, _, { prepared: amount, commandId }) {
      tx.insert(pots, { name: `pot ${amount}`, amount, nick: commandId });
      return create(OrderSchema, { amount });
    },
  });
  const context = contextOf({ idempotencyKey: "prepared" });
  const answers = await Promise.all([1, 2, 3].map(() => writer.execute(withPrepare, request, context, noPeers) as Promise<Order>));
  expect(answers.map(({ amount }) => amount)).toEqual([7n, 7n, 7n]);
  expect(prepared).toHaveBeenCalledTimes(1);
});

test("a declared no of a peer is stored as the command's no; a fault of a peer is not", async () => {
  await clean(database);
  const writer = writerOn(database);
  const errors = [new CallError("UNAVAILABLE", "unavailable", "away"), new CallError("NOT_FOUND", "account_not_found", "none")];
  const asking = vi.fn(async () => {
    throw errors.shift() ?? new Error("asked again");
  });
  const topUp = operation(PaymentsService.method.topUp, { prepare: asking, write: () => create(TransactionSchema) });
  const context = contextOf({ idempotencyKey: "peer" });
  const run = () => writer.execute(topUp, create(TopUpRequestSchema, { amount: 1n }), context, noPeers);
  await expect(run()).rejects.toMatchObject({ code: "unavailable" });
  expect(await run()).toEqual(reject("account_not_found", "none"));
  expect(await run()).toEqual(reject("account_not_found", "none"));
  expect(asking).toHaveBeenCalledTimes(2);
});

test("answers are forgotten by the field by which their contract groups them, and by nothing where it names none", async () => {
  await clean(database);
  const { getCard, listCards, putCard } = CardsService.method;
  const forgotten = vi.fn(async () => {});
  const writer = new Writer({
    service: "test",
    database,
    equipment: noEquipment,
    metrics: new Metrics(),
    manifest: manifestOf("test", { caches: [getCard, listCards] }),
    published: () => {},
    enqueued: () => {},
    forgotten,
  });
  const say = (...said: Parameters<Tx["forget"]>) => {
    const put = operation(OrdersService.method.createOrder, {
      write(tx) {
        tx.forget(...said);
        return create(OrderSchema);
      },
    });
    return writer.execute(put, request, contextOf({ idempotencyKey: randomUUID() }), noPeers);
  };
  await expect(say(getCard)).rejects.toThrow("CardsService/GetCard: its answers are forgotten by `card_id`: say which");
  await expect(say(listCards, "a")).rejects.toThrow("CardsService/ListCards: its answers are forgotten all together: name no group");
  await expect(say(putCard)).rejects.toThrow("answers of polis.cardtest.v1.CardsService/PutCard aren't cached here");
  expect(forgotten).not.toHaveBeenCalled();
  await say(getCard, "a");
  await say(listCards);
  expect(forgotten.mock.calls).toEqual([[[{ method: getCard, group: "a" }]], [[{ method: listCards, group: "" }]]]);
});

test("an operation with SQL of its own runs once under its key, and a rejection takes back what it wrote", async () => {
  await clean(database);
  const writer = writerOn(database);
  const runs = vi.fn();
  const bulk = runOperation(OrdersService.method.createOrder, async (sql, { amount }) => {
    runs();
    await sql.query({
      text: "INSERT INTO pots SELECT 'pot ' || n, n, 'nick ' || n FROM generate_series(1, $1) n ON CONFLICT DO NOTHING",
      values: [amount],
    });
    return amount > 5n ? reject("insufficient_funds") : create(OrderSchema, { amount });
  });
  const run = (amount: bigint, key: string) =>
    writer.run(bulk, create(CreateOrderRequestSchema, { amount }), contextOf({ idempotencyKey: key }));
  expect(await run(9n, "too much")).toEqual(reject("insufficient_funds"));
  expect(await potsIn(database)).toEqual({});
  expect(await run(3n, "fits")).toMatchObject({ amount: 3n });
  expect(await run(3n, "fits")).toMatchObject({ amount: 3n });
  expect(await run(9n, "too much")).toEqual(reject("insufficient_funds"));
  expect(await run(4n, "fits")).toMatchObject({ code: "idempotency_key_reused" });
  const atOnce = await Promise.all([2n, 2n, 2n].map((amount) => run(amount, "at once").catch((error: Error) => error)));
  expect(atOnce.map((answer) => (answer as Order).amount)).toEqual([2n, 2n, 2n]);
  expect(runs).toHaveBeenCalledTimes(3);
  expect(Object.keys(await potsIn(database))).toHaveLength(3);
});

test("an item whose row can't be written fails alone", async () => {
  await clean(database);
  const writer = writerOn(database);
  const outcomes = await Promise.all(
    ["a", "b", "c"].map((pot) => outcomeOf(writer, { pot, amount: pot === "b" ? 3n : 1n, mode: pot === "b" ? "unwritable" : "" })),
  );
  expect(outcomes).toEqual(["1", "failed: BadRow", "1"]);
  expect(await potsIn(database)).toEqual({ a: 1n, c: 1n });
});

test("what has asked its peers is carried out, past every bound and deadline", async () => {
  await clean(database);
  const writer = writerOn(database, { waitingMax: 2, batchMax: 1, inFlightMax: 1 });
  const asked = vi.fn(async () => undefined);
  const effect = operation(OrdersService.method.createOrder, {
    prepare: asked,
    write: (tx, _, { commandId }) => {
      tx.insert(pots, { name: commandId, amount: 1n, nick: commandId });
      return create(OrderSchema);
    },
  });
  const late = () => contextOf({ deadlineMs: Date.now() - 1 });
  const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => writer.execute(effect, request, late(), noPeers)));
  expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(asked.mock.calls.length);
  expect(Object.keys(await potsIn(database))).toHaveLength(asked.mock.calls.length);
  expect(asked).toHaveBeenCalledTimes(2);
});

test("commands and what consumers have ready share a transaction; one whose guard stops it stops nobody else", async () => {
  await clean(database);
  const published = vi.fn();
  const writer = writerOn(database, {}, published);
  const put = (pot: string): ApplyItem => ({
    ...anyItem,
    parts: {
      write(tx: Tx) {
        tx.insert(pots, { name: pot, amount: 1n, nick: pot });
        tx.publish(OrderCreatedSchema, { orderId: userId, userId, amount: 1n, description: pot, currency: "RUB" });
      },
    },
  });
  const count = { text: "SELECT 1" };
  const last = vi.fn(() => [count]);
  const all = [outcomeOf(writer, { pot: "a", amount: 1n }), writer.apply([put("b"), put("c")], { first: [count], last })];
  expect(await Promise.all(all)).toEqual(["1", Array.from({ length: 2 }, () => ({ kind: "applied", answer: undefined }))]);
  expect(published).toHaveBeenCalledTimes(1);
  expect(last).toHaveBeenCalledWith([expect.anything(), expect.anything()]);
  const check = () => {
    throw new Error("shut out");
  };
  const [command, stopped, other] = await Promise.allSettled([
    outcomeOf(writer, { pot: "d", amount: 1n }),
    writer.apply([put("e")], { first: [{ ...count, check }], last: () => [] }),
    writer.apply([put("f")], { first: [], last: () => [] }),
  ]);
  expect([command, other]).toMatchObject([{ value: "1" }, { value: [{ kind: "applied" }] }]);
  expect(stopped).toMatchObject({ reason: new Error("shut out") });
  expect(Object.keys(await potsIn(database))).toEqual(["a", "b", "c", "d", "f"]);
});

test("a guard stops a batch as well where its items are parted for their data", async () => {
  await clean(database);
  const checked = vi.fn();
  const put = (name: string, amount: bigint): ApplyItem => ({
    ...anyItem,
    parts: { write: (tx: Tx) => tx.insert(pots, { name, amount, nick: name }) },
  });
  // Twice for all at once, and once more before they are parted.
  checked.mockReturnValueOnce(undefined).mockReturnValueOnce(undefined).mockThrow(new Error("shut out"));
  const guard = { text: "SELECT 1", check: () => checked() };
  await expect(writerOn(database).apply([put("good", 1n), put("bad", -100n)], { first: [guard], last: () => [] })).rejects.toThrow(
    "shut out",
  );
  expect(await potsIn(database)).toEqual({});
});

test("commands that were answered leave room for others", async () => {
  await clean(database);
  const writer = writerOn(database, { waitingMax: 2 });
  for (let n = 1; n <= 5; n++) expect(await outcomeOf(writer, { pot: "a", amount: 1n })).toBe(String(n));
  for (let n = 0; n < 5; n++) expect(await outcomeOf(writer, { pot: "a", amount: 1n, mode: "fault" })).toBe("failed: Error");
  expect(await outcomeOf(writer, { pot: "a", amount: 1n })).toBe("6");
});

test("a unique value that a command claimed in vain is there for the next of the batch", async () => {
  await clean(database);
  const writer = writerOn(database);
  const outcomes = await Promise.all([
    outcomeOf(writer, { pot: "a", amount: -1n, mode: "nick" }),
    outcomeOf(writer, { pot: "b", amount: 1n, mode: "nick" }),
  ]);
  expect(outcomes).toEqual(["insufficient_funds", "1"]);
});

test("a consumer that waits for a lock is waited for by nobody, and comes again", async () => {
  await clean(database);
  const writer = writerOn(database);
  const locked = Promise.withResolvers<void>();
  const free = Promise.withResolvers<void>();
  await database.query({ text: "CREATE TABLE IF NOT EXISTS held (id integer PRIMARY KEY)" });
  await database.query({ text: "INSERT INTO held VALUES (1) ON CONFLICT DO NOTHING" });
  const lock = { text: "SELECT 1 FROM held WHERE id = 1 FOR UPDATE" };
  const holder = database.transaction(async (tx) => {
    await tx.query(lock);
    locked.resolve();
    await free.promise;
  });
  await locked.promise;
  const put: ApplyItem = { ...anyItem, parts: { write: (tx: Tx) => tx.insert(pots, { name: "event", amount: 1n, nick: "event" }) } };
  const apply = () => writer.apply([put], { first: [lock], last: () => [] });
  const waiting = expect(apply()).rejects.toSatisfy(isGivenUpWaiting);
  for (let n = 1; n <= 5; n++) expect(await outcomeOf(writer, { pot: "a", amount: 1n })).toBe(String(n));
  await waiting;
  expect(await potsIn(database)).toEqual({ a: 5n });
  free.resolve();
  await holder;
  expect(await apply()).toMatchObject([{ kind: "applied" }]);
  expect(await potsIn(database)).toEqual({ a: 5n, event: 1n });
});

test("what may have been committed is carried out by nobody again", async () => {
  const lost = Object.assign(new Error("Connection terminated unexpectedly"));
  for (const error of [new OutcomeUnknown("who knows"), lost]) {
    const transaction = vi.fn(() => Promise.reject(error));
    const writer = writerOn({ ...database, transaction });
    const all = [outcomeOf(writer, { pot: "a", amount: 1n }), writer.apply([anyItem], { first: [], last: () => [] })];
    const [command, event] = await Promise.allSettled(all);
    expect(command).toMatchObject({ value: "failed: CallError" });
    expect(event).toMatchObject({ reason: error });
    expect(transaction).toHaveBeenCalledTimes(1);
  }
});

test("keys are forgotten after seven days, in bounded batches", async () => {
  await clean(database);
  const writer = writerOn(database);
  for (const key of ["a", "b", "c"]) await outcomeOf(writer, { pot: "a", amount: 1n }, contextOf({ idempotencyKey: key }));
  const inSixDays = Date.now() + 6 * 86_400_000;
  expect(await pruneAnswers(database, inSixDays, 10)).toBe(0);
  expect(await pruneAnswers(database, inSixDays + 2 * 86_400_000, 2)).toBe(2);
  expect(await countOf(database, "idempotency")).toBe(1n);
});

test("a server that is away is the caller's to try again, and nothing was written", async () => {
  const away: Database = { ...database, transaction: () => Promise.reject(Object.assign(new Error("connect"), { code: "ECONNREFUSED" })) };
  await expect(writerOn(away).execute(move, request, contextOf({ caller: userCaller(userId) }), noPeers)).rejects.toMatchObject({
    status: "UNAVAILABLE",
    retryAfterMs: 1000,
  });
});
