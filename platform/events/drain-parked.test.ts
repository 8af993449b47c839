import type { QueryResultRow } from "pg";
import { beforeEach, describe, expect, test } from "vitest";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { systemClock } from "#platform/clock.ts";
import { noEquipment } from "#platform/equipment.testing.ts";
import { type ConsumerGroup, makePartitionWork, type PartitionWork } from "#platform/events/consumer-group.ts";
import { on } from "#platform/events/define-consumer.ts";
import { drainParked } from "#platform/events/drain-parked.ts";
import { createEffects, effects, effectsByKey, orderCreated, serviceMigrations, testTimings } from "#platform/events/event-log.testing.ts";
import { makeFailureBook } from "#platform/events/failure-book.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { uuidv7 } from "#platform/ids.ts";
import { listDeadLetters, replayDeadLetters } from "#platform/inbox/dead-letters.ts";
import { inboxGroup } from "#platform/inbox/inbox.ts";
import { type ParkedState, parkEvents } from "#platform/inbox/parking.ts";
import { testDatabase, testLog } from "#platform/postgres/database.testing.ts";
import type { Database, Statement } from "#platform/postgres/database.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { passingTracer } from "#platform/telemetry/tracing.ts";
import { manifestOf } from "#platform/writes/manifest.ts";
import { Writer } from "#platform/writes/writer.ts";

describe("a step of draining what is parked", async () => {
  const database = await testDatabase({ migrations: serviceMigrations });
  await createEffects(database);
  const id = await inboxGroup(database, "test.on-test");
  /** Rows that steps have read. */
  let read = 0;
  const watched: Database = {
    ...database,
    query: async <R extends QueryResultRow>(statement: Statement) => {
      const result = await database.query<R>(statement);
      read += result.rows.length;
      return result;
    },
  };
  const metrics = new Metrics();
  const writer = new Writer({
    service: "test",
    database: watched,
    equipment: noEquipment,
    metrics,
    manifest: manifestOf("test", {}),
    published: () => {},
    enqueued: () => {},
  });
  const away = new Set<string>();
  const handler = on(OrderCreatedSchema, {
    prepare: async ({ description }) => {
      if (away.has(description)) throw new CallError("UNAVAILABLE", "unavailable", "away");
    },
    write: (tx, { orderId, description }, { id }) => tx.insert(effects, { id, key: orderId, value: description }),
  });
  const timings = { ...testTimings, firstPauseMs: 60_000, longestPauseMs: 60_000 };
  const group: ConsumerGroup = {
    name: "test.on-test",
    id,
    service: "test",
    handlers: new Map([[OrderCreatedSchema.typeName, handler]]),
    database: watched,
    equipment: noEquipment,
    apply: writer.apply,
    transportFor: () => {
      throw new Error("nobody is called here");
    },
    logger: testLog,
    tracer: passingTracer,
    clock: systemClock,
    timings,
    failures: makeFailureBook(timings, systemClock),
    handled: metrics.counter("handled", "handled", ["group", "outcome"]),
    paused: metrics.gauge("paused", "paused", ["group", "topic", "partition"]),
  };
  let work: PartitionWork;

  beforeEach(async () => {
    await database.query({ text: "TRUNCATE effects, inbox, fences, dead_letters" });
    const { signal } = new AbortController();
    work = makePartitionWork(group, { group: group.name, topic: "t", partition: 0, confirm: async () => {}, signal });
    away.clear();
  });

  async function park(state: ParkedState, records: readonly EventRecord[]): Promise<void> {
    await database.query(
      parkEvents(
        { groupId: group.id, topic: "t", partition: 0 },
        records.map((record) => ({ record, state, tries: 0, afterMs: 0, cause: undefined })),
      ),
    );
  }
  const events = (count: number, value: string): EventRecord[] => Array.from({ length: count }, () => orderCreated(uuidv7(), value));
  const drain = () => work.exclusive(() => drainParked(group, work));

  test("reads nothing of what is dead, nor of what waits behind it, however much that is", async () => {
    const dead = events(2_000, "dead");
    await park("dead", dead);
    await park(
      "waiting",
      Array.from({ length: 2_000 }, () => orderCreated(dead[0]?.key as string, "behind")),
    );
    expect(await drain()).toEqual({ progressed: false, retrying: false });
    read = 0;
    expect(await drain()).toEqual({ progressed: false, retrying: false });
    expect(read).toBe(0);
  });

  test("tries a bounded number, and all of a replay in so many steps, each key in its order", async () => {
    const first = events(600, "1");
    await park("dead", first);
    await park(
      "waiting",
      first.slice(0, 10).map(({ key }) => orderCreated(key, "2")),
    );
    await replayDeadLetters(database, { group: group.name });
    const left: number[] = [];
    while ((await drain()).progressed) left.push((await listDeadLetters(database, { limit: 1_000 })).length);
    expect(left[0]).toBe(610 - 256);
    expect(left.at(-1)).toBe(0);
    const byKey = await effectsByKey(database);
    expect(byKey.size).toBe(600);
    for (const [n, { key }] of first.entries()) expect(byKey.get(key)).toEqual(n < 10 ? ["1", "2"] : ["1"]);
    expect(work.parked.size).toBe(0);
  });

  test("gets to others past a whole step of events whose peer is away", async () => {
    away.add("away");
    await park("retrying", events(300, "away"));
    await park("retrying", events(1, "here"));
    while ((await drain()).progressed);
    expect([...(await effectsByKey(database)).values()]).toEqual([["here"]]);
    expect((await listDeadLetters(database, { limit: 1_000 })).length).toBe(300);
  });
});
