import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import type { RunningConsumer } from "#platform/events/consumer.ts";
import { type Consumer, consumer, on } from "#platform/events/define-consumer.ts";
import {
  allEffects,
  createEffects,
  effects,
  effectsByKey,
  logEngines,
  logMigrations,
  orderCreated,
  serviceMigrations,
  startTestConsumer,
  testEventLog,
} from "#platform/events/event-log.testing.ts";
import type { EventLog } from "#platform/events/event-log.ts";
import { topicsOf } from "#platform/events/event-types.ts";
import type { PostgresLog } from "#platform/events/postgres-log.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { derivedUuid, uuidv7 } from "#platform/ids.ts";
import { listDeadLetters, replayDeadLetters } from "#platform/inbox/dead-letters.ts";
import { testDatabase } from "#platform/postgres/database.testing.ts";
import type { Database } from "#platform/postgres/database.ts";
import { CallError } from "#platform/rpc/call-error.ts";

const until = (check: () => void | Promise<void>): Promise<void> => vi.waitFor(check, { timeout: 15_000, interval: 10 });

/** A database whose connections stop answering for as long as it is frozen, and fail while it is cut. */
function breakable(database: Database) {
  const state = { frozen: undefined as Promise<void> | undefined, cut: false };
  const gate = async (): Promise<void> => {
    await state.frozen;
    if (state.cut) throw new Error("Connection terminated unexpectedly");
  };
  const broken: Database = {
    ...database,
    query: async (statement) => {
      await gate();
      return database.query(statement);
    },
    transaction: async (run, options) => {
      await gate();
      return database.transaction(run, options);
    },
  };
  return { database: broken, state };
}

describe("of two members", async () => {
  const logDatabase = await testDatabase({ migrations: logMigrations, maxConnections: 10 });
  const database = await testDatabase({ migrations: serviceMigrations, maxConnections: 10 });
  await createEffects(database);
  const ended: (() => Promise<void>)[] = [];

  beforeEach(async () => {
    await database.query({ text: "TRUNCATE effects, inbox, fences, dead_letters" });
    await logDatabase.query({ text: "TRUNCATE topics, partitions, log, groups, positions, members, leases" });
  });
  afterEach(async () => {
    for (const end of ended.splice(0).reverse()) await end();
  });

  function openLog(on: Database = logDatabase): PostgresLog {
    const log = testEventLog(on);
    ended.push(() => log.close());
    return log;
  }

  async function start(log: PostgresLog, definition: Consumer, on: Database = database): Promise<RunningConsumer> {
    const running = await startTestConsumer({ database: on, log, consumer: definition });
    ended.push(() => running.stop());
    return running;
  }

  const writing = (name: string, hold?: () => Promise<void>): Consumer =>
    consumer(
      on(OrderCreatedSchema, {
        prepare: async () => hold?.(),
        write: (tx, { orderId, description }, { id }) => tx.insert(effects, { id, key: orderId, value: `${name} ${description}` }),
      }),
    );

  test("one freezes with a batch in flight: the other takes over, and the frozen one's write is shut out", async () => {
    const thaw = Promise.withResolvers<void>();
    const inFlight = Promise.withResolvers<void>();
    const frozen = breakable(logDatabase);
    const key = uuidv7();
    const log = openLog(frozen.database);
    await start(
      log,
      writing("frozen", async () => {
        frozen.state.frozen = thaw.promise;
        inFlight.resolve();
        await thaw.promise;
      }),
    );
    const other = openLog();
    await other.publish([orderCreated(key, "1")]);
    await inFlight.promise;
    await start(other, writing("other"));
    await other.publish([orderCreated(key, "2")]);
    await until(async () => expect(await allEffects(database)).toEqual(["other 1", "other 2"]));
    thaw.resolve();
    frozen.state.frozen = undefined;
    await other.publish([orderCreated(key, "3")]);
    await until(async () => expect((await allEffects(database)).length).toBe(3));
    expect((await allEffects(database)).map((value) => value.split(" ")[1])).toEqual(["1", "2", "3"]);
    expect(await listDeadLetters(database)).toEqual([]);
  });

  test("one freezes in the middle of its transaction, before its guards: nothing of it is written", async () => {
    const thaw = Promise.withResolvers<void>();
    const frozen = breakable(database);
    const frozenLog = breakable(logDatabase);
    const key = uuidv7();
    const log = openLog(frozenLog.database);
    const asked = Promise.withResolvers<void>();
    await start(
      log,
      writing("frozen", async () => {
        // The write that follows waits in the frozen process.
        frozen.state.frozen = thaw.promise;
        frozenLog.state.frozen = thaw.promise;
        asked.resolve();
      }),
      frozen.database,
    );
    const other = openLog();
    await other.publish([orderCreated(key, "1")]);
    await asked.promise;
    await start(other, writing("other"));
    await until(async () => expect(await allEffects(database)).toEqual(["other 1"]));
    await database.query({ text: "TRUNCATE inbox" });
    thaw.resolve();
    frozen.state.frozen = undefined;
    frozenLog.state.frozen = undefined;
    await other.publish([orderCreated(key, "2")]);
    await until(async () => expect((await allEffects(database)).length).toBe(2));
    expect((await allEffects(database))[0]).toBe("other 1");
    expect((await allEffects(database))[1]).toMatch(/2$/);
  });

  test("one is killed: the other goes on with its partitions", async () => {
    const killed = breakable(logDatabase);
    await start(openLog(killed.database), writing("killed"));
    const other = openLog();
    await start(other, writing("other"));
    killed.state.cut = true;
    const keys = Array.from({ length: 20 }, () => uuidv7());
    await other.publish(keys.map((key) => orderCreated(key, "1")));
    await until(async () => expect((await effectsByKey(database)).size).toBe(20));
  });
});

for (const engine of await logEngines())
  test.skipIf(engine.isAway)(
    `the log ${engine.name}: every event has its effect once and in the order of its key, whatever fails, repeats, restarts or is replayed`,
    { timeout: 240_000 },
    async () => {
      const database = await testDatabase({ migrations: serviceMigrations, maxConnections: 8 });
      await createEffects(database);
      const step = fc.oneof(
        {
          weight: 6,
          arbitrary: fc.record({
            do: fc.constant("publish" as const),
            keys: fc.array(fc.nat({ max: 5 }), { minLength: 1, maxLength: 12 }),
            repeat: fc.boolean(),
          }),
        },
        { weight: 1, arbitrary: fc.record({ do: fc.constant("restart" as const) }) },
        { weight: 1, arbitrary: fc.record({ do: fc.constant("join" as const) }) },
        { weight: 1, arbitrary: fc.record({ do: fc.constant("replay" as const) }) },
      );
      const scenario = fc.record({
        steps: fc.array(step, { minLength: 10, maxLength: 40 }),
        faults: fc.array(fc.nat({ max: 99 }), { minLength: 30, maxLength: 30 }),
        prepares: fc.boolean(),
        name: fc.uuid(),
      });
      const seed = Number(process.env.TEST_SEED ?? 20261121);
      await fc.assert(
        fc.asyncProperty(scenario, async ({ steps, faults, prepares, name }) => {
          await database.query({ text: "TRUNCATE effects, inbox, fences, dead_letters" });
          await engine.reset();
          let calls = 0;
          let healed = false;
          const trouble = (): number => (healed ? 99 : (faults[calls++ % faults.length] ?? 99));
          const handler: Consumer = consumer(
            on(OrderCreatedSchema, {
              ...(prepares
                ? {
                    prepare: async () => {
                      const dice = trouble();
                      if (dice < 10) throw new CallError("UNAVAILABLE", "unavailable", "away");
                      if (dice < 20) throw new Error("a fault while preparing");
                    },
                  }
                : {}),
              write(tx, { orderId, description }, { id }) {
                if (trouble() < 15) throw new Error("a fault while writing");
                tx.insert(effects, { id, key: orderId, value: description });
              },
            }),
          );
          const publisher = engine.open();
          await publisher.ensureTopics(topicsOf([OrderCreatedSchema]));
          const members: { log: EventLog; running: RunningConsumer }[] = [];
          const join = async (): Promise<void> => {
            const log = engine.open();
            members.push({ log, running: await startTestConsumer({ database, log, consumer: handler }) });
          };
          const leave = async (): Promise<void> => {
            const member = members.shift();
            await member?.running.stop();
            await member?.log.close();
          };
          const expected = new Map<string, string[]>();
          const sent: EventRecord[] = [];
          try {
            await join();
            for (const [n, act] of steps.entries()) {
              if (act.do === "publish") {
                const fresh = act.keys.map((number, i) => {
                  const key = derivedUuid(name, String(number));
                  const value = `${n}.${i}`;
                  expected.set(key, [...(expected.get(key) ?? []), value]);
                  return orderCreated(key, value);
                });
                sent.push(...fresh);
                await publisher.publish(act.repeat ? [...fresh, sent[n % sent.length] as EventRecord] : fresh);
              } else if (act.do === "join" && members.length < 3) await join();
              else if (act.do === "restart") {
                await leave();
                await join();
              } else await replayDeadLetters(database, { group: "test.on-test" });
            }
            healed = true;
            await until(async () => {
              await replayDeadLetters(database, { group: "test.on-test" });
              expect(await effectsByKey(database)).toEqual(expected);
              expect(await listDeadLetters(database)).toEqual([]);
            });
          } finally {
            while (members.length > 0) await leave();
            await publisher.close();
          }
        }),
        { numRuns: Number(process.env.TEST_RUNS ?? 8), seed, endOnFailure: true },
      );
    },
  );
