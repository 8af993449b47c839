import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { logMigrations, orderCreated, serviceMigrations, testEventLog, testTimings } from "#platform/events/event-log.testing.ts";
import { type EventLog, RecordRefusedError } from "#platform/events/event-log.ts";
import { topicsOf } from "#platform/events/event-types.ts";
import type { PostgresLog } from "#platform/events/postgres-log.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { decodeRecordBatch } from "#platform/events/record-batch.ts";
import { uuidv7 } from "#platform/ids.ts";
import { LeaseLostError, outboxInsert, takeLease, takeNextRows } from "#platform/outbox/outbox.ts";
import { listParked, parkRecords, retryParked } from "#platform/outbox/parked.ts";
import { type Relay, startRelay } from "#platform/outbox/relay.ts";
import { testDatabase, testLog } from "#platform/postgres/database.testing.ts";
import type { Database } from "#platform/postgres/database.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const until = (check: () => void | Promise<void>): Promise<void> => vi.waitFor(check, { timeout: 10_000, interval: 10 });

describe("the relay of an outbox", async () => {
  const logDatabase = await testDatabase({ migrations: logMigrations, maxConnections: 8 });
  const database = await testDatabase({ migrations: serviceMigrations, maxConnections: 8 });
  const ended: (() => Promise<void>)[] = [];
  let log: PostgresLog;

  beforeEach(async () => {
    await database.query({ text: "TRUNCATE outbox, outbox_lease, outbox_parked" });
    await logDatabase.query({ text: "TRUNCATE topics, partitions, log, groups, positions, members, leases" });
    log = testEventLog(logDatabase);
    ended.push(() => log.close());
    await log.ensureTopics(topicsOf([OrderCreatedSchema]));
  });
  afterEach(async () => {
    for (const end of ended.splice(0).reverse()) await end();
  });

  function start(options: { log?: EventLog; database?: Database; metrics?: Metrics } = {}): Relay {
    const relay = startRelay({ service: "test", database, log, logger: testLog, metrics: new Metrics(), timings: testTimings, ...options });
    ended.push(() => relay.stop());
    return relay;
  }

  const put = async (...records: EventRecord[]): Promise<void> => void (await database.query(outboxInsert(records)));

  /** The values of all events in the log, of each key in order. */
  async function logged(): Promise<Map<string, string[]>> {
    const { rows } = await logDatabase.query<{ records: Buffer }>({ text: "SELECT records FROM log ORDER BY partition_id, last_offset" });
    const byKey = new Map<string, string[]>();
    for (const { key, eventId } of rows.flatMap((row) => decodeRecordBatch(row.records)))
      byKey.set(key, [...(byKey.get(key) ?? []), eventId]);
    return byKey;
  }
  const park = (...records: EventRecord[]): Promise<void> =>
    database.transaction((tx) => tx.commit(parkRecords(records.map((record) => ({ record, cause: "it is not wanted" })))));
  /** The log, but for what `refuse` gives a reason against. */
  const refusing = (refuse: (record: EventRecord) => Promise<string | undefined>): EventLog => ({
    ...log,
    publish: async (records, options) => {
      for (const record of records) {
        const reason = await refuse(record);
        if (reason !== undefined) throw new RecordRefusedError(record, reason);
      }
      await log.publish(records, options);
    },
  });
  const left = async (table = "outbox"): Promise<number> =>
    (await database.query<{ left: number }>({ text: `SELECT count(*)::int AS left FROM ${table}` })).rows[0]?.left ?? -1;

  test("carries events to the log in order, as soon as it is woken, and empties the outbox", async () => {
    const relay = start();
    const key = uuidv7();
    const sent = Array.from({ length: 300 }, (_, n) => orderCreated(key, String(n)));
    for (let at = 0; at < sent.length; at += 3) {
      await put(...sent.slice(at, at + 3));
      relay.wake();
    }
    await until(async () => expect((await logged()).get(key)).toEqual(sent.map((record) => record.eventId)));
    await until(async () => expect(await left()).toBe(0));
  });

  test("doesn't lose a transaction that began first and commits last", async () => {
    const relay = start();
    const [early, late] = [orderCreated(uuidv7(), "early"), orderCreated(uuidv7(), "late")];
    const commit = Promise.withResolvers<void>();
    const inserted = Promise.withResolvers<void>();
    const slow = database.transaction(async (tx) => {
      await tx.query(outboxInsert([early]));
      inserted.resolve();
      await commit.promise;
    });
    await inserted.promise;
    await put(late);
    relay.wake();
    await until(async () => expect([...(await logged()).keys()]).toEqual([late.key]));
    await until(async () => expect(await left()).toBe(0));
    commit.resolve();
    await slow;
    relay.wake();
    await until(async () => expect((await logged()).get(early.key)).toEqual([early.eventId]));
  });

  test("works alone; when it freezes another takes over, and the frozen one deletes nothing", async () => {
    const thaw = Promise.withResolvers<void>();
    let frozen: Promise<void> | undefined;
    const freezing: Database = {
      ...database,
      query: async (statement) => {
        await frozen;
        return database.query(statement);
      },
      transaction: async (run, options) => {
        await frozen;
        return database.transaction(run, options);
      },
    };
    const published: string[] = [];
    const inHand = Promise.withResolvers<void>();
    const frozenLog: EventLog = {
      ...log,
      publish: async (records, options) => {
        frozen = thaw.promise;
        inHand.resolve();
        await thaw.promise;
        await log.publish(records, options);
        published.push(...records.map((record) => record.eventId));
      },
    };
    start({ log: frozenLog, database: freezing });
    const key = uuidv7();
    const [one, two, three] = [orderCreated(key, "1"), orderCreated(key, "2"), orderCreated(key, "3")];
    await put(one);
    await inHand.promise;
    start();
    await put(two);
    await until(async () => expect((await logged()).get(key)).toEqual([one.eventId, two.eventId]));
    await until(async () => expect(await left()).toBe(0));
    // What the frozen one now appends is a repeat; what it would delete by then is somebody else's.
    await put(three);
    frozen = undefined;
    thaw.resolve();
    await until(() => expect(published).toEqual([one.eventId]));
    await until(async () => {
      const order = [...new Set((await logged()).get(key))];
      expect(order).toEqual([one.eventId, two.eventId, three.eventId]);
    });
    await until(async () => expect(await left()).toBe(0));
  });

  test.each([
    ["waits for the disk of a log on another server", "another server", true],
    ["doesn't wait for the disk of a log on the outbox's own server", database.serverId, false],
  ])("%s", async (_, serverId, waits) => {
    const asked: unknown[] = [];
    const watched: EventLog = {
      ...log,
      serverId,
      publish: async (records, options) => {
        asked.push(options?.durable);
        await log.publish(records, options);
      },
    };
    await put(orderCreated(uuidv7(), "a"));
    start({ log: watched });
    await until(async () => expect(await left()).toBe(0));
    expect(asked).toEqual([waits]);
  });

  test("publishes again what the server may have lost in a crash after the append", async () => {
    let crashes = 1;
    const crashing: EventLog = {
      ...log,
      publish: async (records, options) => {
        await log.publish(records, options);
        if (crashes-- <= 0) return;
        // The append didn't wait for the disk, and unlogged tables are empty after recovery.
        await logDatabase.query({ text: "DELETE FROM log" });
        await database.query({ text: "TRUNCATE outbox_lease" });
      },
    };
    const relay = start({ log: crashing });
    const event = orderCreated(uuidv7(), "a");
    await put(event);
    relay.wake();
    await until(async () => expect((await logged()).get(event.key)).toEqual([event.eventId]));
    await until(async () => expect(await left()).toBe(0));
  });

  test("publishes again what it couldn't delete: the log's server may have lost it by the same crash", async () => {
    let failures = 1;
    const failing: Database = {
      ...database,
      queryAll: async (statements) => {
        if (statements[0]?.name === "outbox delete" && failures-- > 0) throw new Error("Connection terminated unexpectedly");
        return database.queryAll(statements);
      },
    };
    const event = orderCreated(uuidv7(), "a");
    await put(event);
    start({ database: failing });
    await until(async () => expect(await left()).toBe(0));
    expect((await logged()).get(event.key)).toEqual([event.eventId, event.eventId]);
  });

  test("parks what the log refuses with what follows on its key, goes on with the rest, and publishes it when asked", async () => {
    let refused = "";
    const picky = refusing(async ({ eventId }) => (eventId === refused ? "it is not wanted" : undefined));
    const [a, b] = [uuidv7(), uuidv7()];
    const [a1, a2, a3, b1, b2] = [
      orderCreated(a, "1"),
      orderCreated(a, "2"),
      orderCreated(a, "3"),
      orderCreated(b, "1"),
      orderCreated(b, "2"),
    ];
    refused = a2.eventId;
    await put(a1, a2, b1);
    await put(a3, b2);
    start({ log: picky });
    await until(async () =>
      expect(await logged()).toEqual(
        new Map([
          [a, [a1.eventId]],
          [b, [b1.eventId, b2.eventId]],
        ]),
      ),
    );
    await until(async () => expect([await left(), await left("outbox_parked")]).toEqual([0, 2]));
    const a4 = orderCreated(a, "4");
    await put(a4);
    await until(async () => expect([await left(), await left("outbox_parked")]).toEqual([0, 3]));
    refused = "";
    await retryParked(database);
    await until(async () => expect((await logged()).get(a)).toEqual([a1.eventId, a2.eventId, a3.eventId, a4.eventId]));
    const a5 = orderCreated(a, "5");
    await put(a5);
    await until(async () => expect((await logged()).get(a)?.at(-1)).toBe(a5.eventId));
    expect(await left("outbox_parked")).toBe(0);
  });

  test("publishes nothing once its lease may have ended, even if nobody has taken it", async () => {
    let mayLead = true;
    let refused = 0;
    const renewing: Database = {
      ...database,
      query: async (statement) => {
        if (statement.name === "outbox renew") throw new Error("Connection terminated unexpectedly");
        if (statement.name !== "outbox lease") return database.query(statement);
        if (!mayLead) {
          refused += 1;
          throw new Error("Connection terminated unexpectedly");
        }
        mayLead = false;
        return database.query(statement);
      },
    };
    const relay = start({ database: renewing });
    const [first, second] = [orderCreated(uuidv7(), "1"), orderCreated(uuidv7(), "2")];
    await put(first);
    relay.wake();
    await until(async () => expect([...(await logged()).keys()]).toEqual([first.key]));
    await until(() => expect(refused).toBeGreaterThan(0));
    await put(second);
    relay.wake();
    const before = refused;
    await until(() => expect(refused).toBeGreaterThan(before + 3));
    expect([...(await logged()).keys()]).toEqual([first.key]);
    mayLead = true;
    await until(async () => expect((await logged()).get(second.key)).toEqual([second.eventId]));
  });

  test("waits for the disk where it parks: the event is then nowhere else", async () => {
    const seen: unknown[] = [];
    const watched: Database = {
      ...database,
      transaction: (run, options) =>
        database.transaction(
          (tx) =>
            run({
              query: (statement) => tx.query(statement),
              commit: async (statements) => {
                for (const statement of statements) await tx.query(statement);
                seen.push((await tx.query({ text: "SHOW synchronous_commit" })).rows[0]?.synchronous_commit);
                await tx.commit([]);
              },
            }),
          options,
        ),
    };
    await put(orderCreated(uuidv7(), "a"));
    start({ log: refusing(async () => "it is not wanted"), database: watched });
    await until(async () => expect([await left(), await left("outbox_parked")]).toEqual([0, 1]));
    expect(seen).toEqual(["on"]);
  });

  test("deletes nothing under a lease that is another's", async () => {
    await put(orderCreated(uuidv7(), "a"));
    const [token, other] = [crypto.randomUUID(), crypto.randomUUID()];
    await takeLease(database, token, 60_000);
    const ids = (await takeNextRows(database, [], token)).map((row) => row.id);
    await expect(takeNextRows(database, ids, other)).rejects.toThrow(LeaseLostError);
    expect(await left()).toBe(1);
    expect(await takeNextRows(database, ids, token)).toEqual([]);
    expect(await left()).toBe(0);
  });

  test("that is stopped while it publishes deletes what it published", async () => {
    let stopped: Promise<void> | undefined;
    const stopping: EventLog = {
      ...log,
      publish(records, options) {
        stopped = relay.stop();
        return log.publish(records, options);
      },
    };
    await put(orderCreated(uuidv7(), "a"));
    const relay = start({ log: stopping });
    await until(() => expect(stopped).toBeDefined());
    await stopped;
    expect([(await logged()).size, await left()]).toEqual([1, 0]);
  });

  test("that is stopped while the log doesn't answer waits no longer than it must, and leaves the events to the next", async () => {
    const asked = Promise.withResolvers<void>();
    const relay = start({
      log: {
        ...log,
        publish: () => {
          asked.resolve();
          return new Promise(() => {});
        },
      },
    });
    const order = orderCreated(uuidv7(), "a");
    await put(order);
    relay.wake();
    await asked.promise;
    await relay.stop();
    start();
    await until(async () => expect((await logged()).get(order.key)).toEqual([order.eventId]));
  });

  test("reads nothing of what is parked until somebody asks for it", async () => {
    const record = Buffer.alloc(0);
    await database.query({
      text: "INSERT INTO outbox_parked (topic, key, event_id, record) SELECT 't', n::text, n::text, $1 FROM generate_series(1, 300) n",
      values: [record],
    });
    let looks = 0;
    let read = 0;
    const watched: Database = {
      ...database,
      queryAll: async (statements) => {
        const answers = await database.queryAll(statements);
        for (const [i, { text }] of statements.entries()) {
          if (!/FROM outbox_parked/.test(text)) continue;
          looks += 1;
          read += answers[i]?.rows.length ?? 0;
        }
        return answers;
      },
    };
    start({ database: watched });
    // None of these records could be decoded.
    await until(() => expect(looks).toBeGreaterThan(4));
    expect(read).toBe(0);
    const event = orderCreated(uuidv7(), "a");
    await put(event);
    await until(async () => expect((await logged()).get(event.key)).toEqual([event.eventId]));
  });

  test("publishes more than a step of what was parked, and what is refused again stays until the next asking", async () => {
    const [bad, good] = [orderCreated(uuidv7(), "bad"), orderCreated(uuidv7(), "good")];
    const many = Array.from({ length: 300 }, (_, n) => orderCreated(good.key, String(n)));
    await park(bad, ...many);
    let refused = 0;
    const picky = refusing(async ({ eventId }) => {
      if (eventId !== bad.eventId) return undefined;
      refused += 1;
      return "it is not wanted";
    });
    await retryParked(database);
    start({ log: picky });
    await until(async () => expect((await logged()).get(good.key)).toEqual(many.map((record) => record.eventId)));
    await put(orderCreated(bad.key, "behind"));
    await until(async () => expect([await left(), await left("outbox_parked")]).toEqual([0, 2]));
    expect(refused).toBe(1);
    await put(good);
    await until(async () => expect((await logged()).get(good.key)?.at(-1)).toBe(good.eventId));
  });

  test("an asking covers what comes behind its key until the relay looks, however much that is", async () => {
    const first = orderCreated(uuidv7(), "first");
    const behind = Array.from({ length: 300 }, (_, n) => orderCreated(first.key, String(n)));
    await park(first);
    expect(await retryParked(database)).toBe(1);
    await park(...behind);
    const relay = start();
    await until(async () => expect(await left("outbox_parked")).toBe(0));
    const last = orderCreated(first.key, "last");
    await put(last);
    relay.wake();
    await until(async () => expect((await logged()).get(first.key)).toEqual([first, ...behind, last].map(({ eventId }) => eventId)));
  });

  test("an asking for one key leaves the others parked", async () => {
    const [a, b] = [orderCreated(uuidv7(), "a"), orderCreated(uuidv7(), "b")];
    await park(a, b);
    expect(await retryParked(database, { key: b.key })).toBe(1);
    start();
    await until(async () => expect([...(await logged()).keys()]).toEqual([b.key]));
    await until(async () => expect((await listParked(database, { limit: 9 })).map(({ eventId }) => eventId)).toEqual([a.eventId]));
  });

  test("publishes nothing of a key past what is refused again, and tells why that was", async () => {
    const bad = orderCreated(uuidv7(), "bad");
    const behind = orderCreated(bad.key, "behind");
    await park(bad);
    await database.transaction((tx) => tx.commit(parkRecords([{ record: behind, cause: undefined }])));
    await retryParked(database);
    start({ log: refusing(async ({ eventId }) => (eventId === bad.eventId ? "it is still not wanted" : undefined)) });
    await until(async () =>
      expect(await listParked(database, { limit: 9 })).toMatchObject([
        { eventId: bad.eventId, state: "refused", cause: expect.stringContaining("it is still not wanted") },
        { eventId: behind.eventId, state: "waiting", cause: undefined },
      ]),
    );
    expect((await logged()).size).toBe(0);
  });

  test("tries once more what somebody asks for while it is being refused", async () => {
    const event = orderCreated(uuidv7(), "a");
    await park(event);
    await retryParked(database);
    let refusals = 1;
    const log = refusing(async () => {
      if (refusals-- <= 0) return undefined;
      await retryParked(database);
      return "it is not wanted";
    });
    start({ log });
    await until(async () => expect(await left("outbox_parked")).toBe(0));
    expect((await logged()).get(event.key)).toEqual([event.eventId]);
  });

  test("shows how many are parked, and publishes a key again once its rows were removed by hand", async () => {
    const metrics = new Metrics();
    const shown = async (): Promise<unknown> => /polis_outbox_parked\{service="test"\} (\d+)/.exec(await metrics.text())?.[1];
    const a = orderCreated(uuidv7(), "a");
    await park(a);
    start({ metrics });
    await put(orderCreated(a.key, "b"));
    await until(async () => expect(await shown()).toBe("2"));
    await database.query({ text: "DELETE FROM outbox_parked" });
    await until(async () => expect(await shown()).toBe("0"));
    const c = orderCreated(a.key, "c");
    await put(c);
    await until(async () => expect((await logged()).get(a.key)).toEqual([c.eventId]));
  });

  /** As if the relay had been frozen until another took over and died. */
  const takeOver = () => database.query({ text: "UPDATE outbox_lease SET token = gen_random_uuid(), lease_until = clock_timestamp()" });

  test("parks nothing under a lease that was lost meanwhile", async () => {
    let tries = 0;
    const log = refusing(async () => {
      tries += 1;
      if (tries === 1) await takeOver();
      return "it is not wanted";
    });
    await put(orderCreated(uuidv7(), "a"));
    start({ log });
    // Twice, had it been parked the first time too.
    await until(async () => expect([tries, await left(), await left("outbox_parked")]).toEqual([2, 0, 1]));
  });

  test("removes nothing of what is parked under a lease that was lost meanwhile", async () => {
    let tries = 0;
    const log = refusing(async () => {
      tries += 1;
      if (tries === 1) await takeOver();
      return undefined;
    });
    const event = orderCreated(uuidv7(), "a");
    await park(event);
    await retryParked(database);
    start({ log });
    await until(async () => expect([tries, await left("outbox_parked")]).toEqual([2, 0]));
    expect((await logged()).get(event.key)).toEqual([event.eventId, event.eventId]);
  });

  test("waits while the log is away, shows it, and goes on by itself", async () => {
    const metrics = new Metrics();
    let away = true;
    const leaving: EventLog = {
      ...log,
      publish: async (records, options) => {
        if (away) throw new Error("Connection terminated unexpectedly");
        await log.publish(records, options);
      },
    };
    start({ log: leaving, metrics });
    const event = orderCreated(uuidv7(), "a");
    await put(event);
    await until(async () => {
      expect(await metrics.text()).toMatch(/polis_outbox_events\{service="test"\} 1/);
      expect(await metrics.text()).toMatch(/polis_outbox_age_seconds\{service="test"\} 0\.[1-9]/);
    });
    away = false;
    await until(async () => expect((await logged()).get(event.key)).toEqual([event.eventId]));
  });

  test("leaves its lease behind for the next at once", async () => {
    const relay = start();
    await until(async () => expect(await left("outbox_lease")).toBe(1));
    await relay.stop();
    expect(await left("outbox_lease")).toBe(0);
  });
});
