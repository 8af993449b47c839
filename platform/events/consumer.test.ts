import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type OrderCreated_Data, OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { PaymentSucceededSchema } from "#contracts/polis/payments/v1/events_pb.ts";
import { type Consumer, consumer, on } from "#platform/events/define-consumer.ts";
import {
  allEffects,
  brokenOrderCreated,
  createEffects,
  effects,
  effectsByKey,
  logEngines,
  orderCreated,
  record,
  serviceMigrations,
  startTestConsumer,
  testTimings,
} from "#platform/events/event-log.testing.ts";
import type { EventLog } from "#platform/events/event-log.ts";
import { topicsOf } from "#platform/events/event-types.ts";
import { partitionOf } from "#platform/events/partition.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { uuidv7 } from "#platform/ids.ts";
import { dropDeadLetters, listDeadLetters, replayDeadLetters, showDeadLetter } from "#platform/inbox/dead-letters.ts";
import { testDatabase } from "#platform/postgres/database.testing.ts";
import type { Database } from "#platform/postgres/database.ts";
import { OutcomeUnknown } from "#platform/postgres/errors.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const group = "test.on-test";
const until = (check: () => Promise<void>): Promise<void> => vi.waitFor(check, { timeout: 10_000, interval: 10 });

/** Writes a row an event; a value that is in `broken` fails. */
const writer = (broken: ReadonlySet<string> = new Set()): Consumer =>
  consumer(
    on(OrderCreatedSchema, {
      write(tx, { orderId, description }, { id }) {
        if (broken.has(description)) throw new Error(`${description} is broken`);
        tx.insert(effects, { id, key: orderId, value: description });
      },
    }),
  );

/** The same, after asking a peer. */
const asking = (ask: (data: OrderCreated_Data) => Promise<string>): Consumer =>
  consumer(
    on(OrderCreatedSchema, {
      prepare: (data) => ask(data),
      write: (tx, { orderId }, { id, prepared }) => tx.insert(effects, { id, key: orderId, value: prepared }),
    }),
  );

const database = await testDatabase({ migrations: serviceMigrations, maxConnections: 8 });
await createEffects(database);
let log: EventLog;
const ended: (() => Promise<void>)[] = [];

async function start(definition: Consumer, more: { log?: EventLog; metrics?: Metrics; name?: string } = {}): Promise<void> {
  const running = await startTestConsumer({ database, log, consumer: definition, ...more });
  ended.push(() => running.stop());
}

for (const engine of await logEngines())
  describe.skipIf(engine.isAway)(`a consumer, the log ${engine.name}`, () => {
    beforeEach(async () => {
      await database.query({ text: "TRUNCATE effects, inbox, fences, dead_letters" });
      await engine.reset();
      const opened = engine.open();
      // As the relay does: a broker that has just made a topic may not take anything for a moment.
      log = { ...opened, publish: (...parts) => vi.waitFor(() => opened.publish(...parts), { timeout: 10_000 }) };
      await log.ensureTopics(topicsOf([OrderCreatedSchema]));
      ended.push(() => opened.close());
    });

    afterEach(async () => {
      for (const end of ended.splice(0).reverse()) await end();
    });

    test("applies an event five times published once, and once more when the group is new", async () => {
      const order = orderCreated(uuidv7(), "a");
      await start(writer());
      for (let i = 0; i < 5; i++) await log.publish([order, order]);
      await log.publish([orderCreated(order.key, "last")]);
      await until(async () => expect(await allEffects(database)).toEqual(["a", "last"]));
      await start(writer(), { name: "onOther" });
      await until(async () => expect((await allEffects(database)).sort()).toEqual(["a", "a", "last", "last"]));
    });

    test("asks the peer about a known event no more", async () => {
      const ask = vi.fn(async (data: OrderCreated_Data) => data.description);
      const order = orderCreated(uuidv7(), "a");
      await start(asking(ask));
      await log.publish([order]);
      await until(async () => expect(await allEffects(database)).toEqual(["a"]));
      await log.publish([order, orderCreated(order.key, "b")]);
      await until(async () => expect(await allEffects(database)).toEqual(["a", "b"]));
      expect(ask).toHaveBeenCalledTimes(2);
    });

    test("prepares the later event of a key only after the earlier one is written", async () => {
      const key = uuidv7();
      const seen: string[][] = [];
      await start(
        asking(async ({ description }) => {
          seen.push(await allEffects(database));
          return description;
        }),
      );
      await log.publish(["a", "b", "c"].map((value) => orderCreated(key, value)));
      await until(async () => expect(await allEffects(database)).toEqual(["a", "b", "c"]));
      expect(seen).toEqual([[], ["a"], ["a", "b"]]);
    });

    test("skips types that it doesn't name, and counts them", async () => {
      const metrics = new Metrics();
      const settled = consumer(
        on(PaymentSucceededSchema, { write: (tx, { orderId }, { id }) => tx.insert(effects, { id, key: orderId, value: "paid" }) }),
      );
      await start(settled, { metrics });
      const id = uuidv7();
      const paid = record(PaymentSucceededSchema, { orderId: id, userId: uuidv7() });
      await log.publish([{ ...orderCreated(id, "a"), topic: paid.topic }, paid]);
      await until(async () => expect(await allEffects(database)).toEqual(["paid"]));
      expect(await metrics.text()).toContain('polis_consumer_handled_total{group="test.on-test",outcome="skipped"} 1');
    });

    test("parks a poison event with what follows on its key, and all others go on; a replay drains the key in order", async () => {
      const broken = new Set(["a2"]);
      const [a, b] = [uuidv7(), uuidv7()];
      await start(writer(broken));
      const batch: EventRecord[] = ["1", "2", "3", "4"].flatMap((n) => [orderCreated(a, `a${n}`), orderCreated(b, `b${n}`)]);
      await log.publish(batch);
      await until(async () => {
        expect((await listDeadLetters(database)).map(({ state }) => state)).toEqual(["dead", "waiting", "waiting"]);
      });
      await log.publish([orderCreated(a, "a5"), orderCreated(b, "b5")]);
      await until(async () => expect((await effectsByKey(database)).get(b)).toEqual(["b1", "b2", "b3", "b4", "b5"]));
      expect((await effectsByKey(database)).get(a)).toEqual(["a1"]);
      await until(async () =>
        expect(await listDeadLetters(database, { group })).toMatchObject([
          { key: a, state: "dead", tries: 4, cause: "Error: a2 is broken" },
          { state: "waiting" },
          { state: "waiting" },
          { state: "waiting" },
        ]),
      );

      broken.clear();
      broken.add("a4");
      expect(await replayDeadLetters(database, { group, key: a })).toBe(1);
      await until(async () => {
        expect((await listDeadLetters(database)).map(({ state }) => state)).toEqual(["dead", "waiting"]);
      });
      expect((await effectsByKey(database)).get(a)).toEqual(["a1", "a2", "a3"]);
      broken.clear();
      await log.publish([orderCreated(a, "a6")]);
      await replayDeadLetters(database, { group });
      await until(async () => expect((await effectsByKey(database)).get(a)).toEqual(["a1", "a2", "a3", "a4", "a5", "a6"]));
      await log.publish([orderCreated(a, "a7")]);
      await until(async () => expect((await effectsByKey(database)).get(a)?.at(-1)).toBe("a7"));
      expect(await listDeadLetters(database)).toEqual([]);
    });

    test("parks what the database refuses, and all others of its batch have their effect and their place in the inbox", async () => {
      await database.query({ text: "ALTER TABLE effects ADD CONSTRAINT not_bad CHECK (value <> 'bad')" });
      ended.push(async () => void (await database.query({ text: "ALTER TABLE effects DROP CONSTRAINT not_bad" })));
      const events = Array.from({ length: 20 }, (_, n) => orderCreated(uuidv7(), n === 7 ? "bad" : `v${n}`));
      await log.publish(events);
      await start(writer());
      await until(async () => expect(await listDeadLetters(database)).toMatchObject([{ key: events[7]?.key, state: "dead" }]));
      await until(async () => expect(await allEffects(database)).toHaveLength(19));
      const { rows } = await database.query({ text: "SELECT count(*)::int AS known FROM inbox" });
      expect(rows).toEqual([{ known: 19 }]);
    });

    test("parks what can't be read, shows it masked, and goes on with the key when it is dropped", async () => {
      const key = uuidv7();
      await start(writer(new Set(["secret"])));
      const [bad, secret] = [brokenOrderCreated(key), orderCreated(uuidv7(), "secret")];
      await log.publish([bad, orderCreated(key, "b"), secret]);
      await until(async () => expect((await listDeadLetters(database)).filter(({ state }) => state === "dead").length).toBe(2));
      const shown = await showDeadLetter(database, { group, eventId: secret.eventId }, [OrderCreatedSchema]);
      expect(shown?.event).toMatchObject({ data: { orderId: secret.key, userId: "***", description: "***", amount: "1" } });
      expect(await dropDeadLetters(database, { group, eventId: bad.eventId })).toBe(1);
      await until(async () => expect((await effectsByKey(database)).get(key)).toEqual(["b"]));
      await log.publish([bad, orderCreated(key, "c")]);
      await until(async () => expect((await effectsByKey(database)).get(key)).toEqual(["b", "c"]));
    });

    test.each<[string, unknown, string]>([
      ["NUL and half a character", new Error("a \0 b \ud800"), "Error: a \ufffd b \ufffd"],
      ["an object without a prototype", Object.create(null), "[Object: null prototype] {}"],
      ["a long text", "x".repeat(5_000), `'${"x".repeat(1_999)}`],
    ])("parks what fails by %s, and all others go on", async (_, thrown, cause) => {
      const [bad, good] = keysOfOnePartition(2) as [string, string];
      await start(
        consumer(
          on(OrderCreatedSchema, {
            write(tx, { orderId, description }, { id }) {
              if (orderId === bad) throw thrown;
              tx.insert(effects, { id, key: orderId, value: description });
            },
          }),
        ),
      );
      await log.publish([orderCreated(bad, "bad"), orderCreated(good, "good")]);
      await until(async () => expect(await allEffects(database)).toEqual(["good"]));
      await until(async () => expect(await listDeadLetters(database)).toMatchObject([{ key: bad, state: "dead", cause }]));
    });

    test("keeps the order of a foreign key that can't be stored, parks under it, and all others go on", async () => {
      const broken = new Set(["1", "3"]);
      const [first, second] = [randomBytes(6_000).toString("base64"), "a\0b"];
      await start(writer(broken));
      const foreign = (key: string, value: string): EventRecord => ({ ...orderCreated(uuidv7(), value), key });
      await log.publish([foreign(first, "1"), foreign(first, "2"), foreign(second, "3"), foreign(second, "4")]);
      await log.publish(["5", "6", "7", "8", "9"].map((value) => orderCreated(uuidv7(), value)));
      await until(async () => expect((await allEffects(database)).sort()).toEqual(["5", "6", "7", "8", "9"]));
      await until(async () => {
        expect((await listDeadLetters(database)).map(({ state }) => state).sort()).toEqual(["dead", "dead", "waiting", "waiting"]);
      });
      broken.clear();
      await log.publish([foreign(first, "10")]);
      await until(async () => expect((await listDeadLetters(database)).length).toBe(5));
      await replayDeadLetters(database, { group });
      await until(async () => expect(await listDeadLetters(database)).toEqual([]));
      const { rows } = await database.query<{ value: string }>({ text: "SELECT value FROM effects ORDER BY id" });
      expect(rows.map(({ value }) => value).filter((value) => ["1", "2", "10"].includes(value))).toEqual(["1", "2", "10"]);
    });

    test.each([true, false])(
      "handles an event once whose commit's outcome is unknown (it was kept: %s), and parks nothing",
      async (kept) => {
        let failures = 1;
        const unsure: Database = {
          ...database,
          transaction: async (run, options) => {
            const fails = failures-- > 0;
            if (fails && !kept) throw new OutcomeUnknown("lost at COMMIT");
            const result = await database.transaction(run, options);
            if (fails) throw new OutcomeUnknown("lost at COMMIT");
            return result;
          },
        };
        const running = await startTestConsumer({ database: unsure, log, consumer: writer() });
        ended.push(() => running.stop());
        const key = uuidv7();
        await log.publish([orderCreated(key, "a"), orderCreated(key, "b")]);
        await until(async () => expect(failures).toBeLessThan(0));
        await log.publish([orderCreated(key, "c")]);
        await until(async () => expect(await allEffects(database)).toEqual(["a", "b", "c"]));
        expect(await listDeadLetters(database)).toEqual([]);
      },
    );

    test("goes on with a key of which everything was dropped", async () => {
      const [key, other] = keysOfOnePartition(2) as [string, string];
      await start(writer(new Set(["bad"])));
      await log.publish([orderCreated(key, "bad")]);
      await until(async () => expect(await listDeadLetters(database)).toMatchObject([{ state: "dead" }]));
      expect(await dropDeadLetters(database, { group, key })).toBe(1);
      await log.publish([orderCreated(key, "b"), orderCreated(key, "c"), orderCreated(other, "d")]);
      await until(async () =>
        expect(await effectsByKey(database)).toEqual(
          new Map([
            [key, ["b", "c"]],
            [other, ["d"]],
          ]),
        ),
      );
      await until(async () => expect(await listDeadLetters(database)).toEqual([]));
    });

    test("keeps parked events in order over a restart", async () => {
      const broken = new Set(["a1"]);
      const key = uuidv7();
      await start(writer(broken));
      await log.publish([orderCreated(key, "a1"), orderCreated(key, "a2")]);
      await until(async () => expect((await listDeadLetters(database))[0]?.state).toBe("dead"));
      await ended.pop()?.();
      await log.publish([orderCreated(key, "a3")]);
      broken.clear();
      await replayDeadLetters(database, { group });
      await start(writer(broken));
      await until(async () => expect(await allEffects(database)).toEqual(["a1", "a2", "a3"]));
    });

    test("waits without end while its peer is away, and makes no dead letter of it", async () => {
      let away = true;
      let asked = 0;
      const metrics = new Metrics();
      const timings = { ...testTimings, aloneTries: 5, aloneForMs: 100 };
      const running = await startTestConsumer({
        database,
        log,
        metrics,
        timings,
        consumer: asking(async ({ description }) => {
          asked += 1;
          if (away) throw new CallError("UNAVAILABLE", "unavailable", "away");
          return description;
        }),
      });
      ended.push(() => running.stop());
      const keys = Array.from({ length: 40 }, () => uuidv7());
      await log.publish(keys.flatMap((key) => [orderCreated(key, "1"), orderCreated(key, "2")]));
      await until(async () => expect(asked).toBeGreaterThan(400));
      expect(await metrics.text()).toMatch(/polis_consumer_paused\{.*\} 1/);
      expect((await listDeadLetters(database)).filter(({ state }) => state === "dead")).toEqual([]);
      away = false;
      await until(async () => {
        const byKey = await effectsByKey(database);
        expect(keys.map((key) => byKey.get(key))).toEqual(keys.map(() => ["1", "2"]));
      });
      await until(async () => expect(await listDeadLetters(database)).toEqual([]));
    });

    test("takes for poison what fails alone while the peer serves others", async () => {
      const timings = { ...testTimings, aloneTries: 5, aloneForMs: 100 };
      const bad = uuidv7();
      const running = await startTestConsumer({
        database,
        log,
        timings,
        consumer: asking(async ({ orderId, description }) => {
          if (orderId === bad) throw new CallError("UNAVAILABLE", "unavailable", "away for this one");
          return description;
        }),
      });
      ended.push(() => running.stop());
      await log.publish([orderCreated(bad, "never"), orderCreated(uuidv7(), "first")]);
      let n = 0;
      await until(async () => {
        n += 1;
        await log.publish([orderCreated(uuidv7(), `more ${n}`)]);
        expect(await listDeadLetters(database)).toMatchObject([{ key: bad, state: "dead" }]);
      });
      await until(async () => expect((await allEffects(database)).length).toBe(n + 1));
    });

    test("takes aside what fails with nobody to compare it with, also beside older dead letters, so that others go on", async () => {
      const timings = { ...testTimings, aloneTries: 5, aloneForMs: 100 };
      const [poison, away, ...others] = keysOfOnePartition(5) as [string, string, ...string[]];
      const running = await startTestConsumer({
        database,
        log,
        timings,
        consumer: asking(async ({ orderId, description }) => {
          if (orderId === poison) throw new Error("broken");
          if (orderId === away) throw new CallError("UNAVAILABLE", "unavailable", "away for this one");
          return description;
        }),
      });
      ended.push(() => running.stop());
      await log.publish([orderCreated(poison, "never")]);
      await until(async () => expect(await listDeadLetters(database)).toMatchObject([{ key: poison, state: "dead" }]));
      await log.publish([orderCreated(away, "never")]);
      await until(async () => expect((await listDeadLetters(database)).map(({ key }) => key).sort()).toEqual([poison, away].sort()));
      for (const key of others) await log.publish([orderCreated(key, "a")]);
      await until(async () => expect(await allEffects(database)).toEqual(["a", "a", "a"]));
      await log.publish([orderCreated(away, "later")]);
      expect((await listDeadLetters(database, { key: away }))[0]?.state).toBe("retrying");
    });
  });

function keysOfOnePartition(count: number): string[] {
  const keys: string[] = [];
  while (keys.length < count) {
    const key = uuidv7();
    if (partitionOf(key, 4) === 0) keys.push(key);
  }
  return keys;
}
