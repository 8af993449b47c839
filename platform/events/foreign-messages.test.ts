import { type MessageToProduce, Producer } from "@platformatic/kafka";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { missingEngines } from "#platform/engines.testing.ts";
import { consumer, on } from "#platform/events/define-consumer.ts";
import {
  allEffects,
  createEffects,
  effects,
  orderCreated,
  serviceMigrations,
  startTestConsumer,
  testKafka,
  testTimings,
} from "#platform/events/event-log.testing.ts";
import { topicsOf } from "#platform/events/event-types.ts";
import { clientOptions, type KafkaConnection } from "#platform/events/kafka-client.ts";
import { openKafkaLog } from "#platform/events/kafka-log.ts";
import { toMessage } from "#platform/events/kafka-messages.ts";
import { uuidv7 } from "#platform/ids.ts";
import { dropDeadLetters, listDeadLetters, replayDeadLetters, showDeadLetter } from "#platform/inbox/dead-letters.ts";
import { testDatabase, testLog } from "#platform/postgres/database.testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const until = (check: () => Promise<void>): Promise<void> => vi.waitFor(check, { timeout: 20_000, interval: 20 });
const group = "test.on-test";
const type = "polis.orders.v1.OrderCreated";

describe.skipIf(missingEngines(["kafka"]).length > 0)("a topic to which others publish as well", async () => {
  const database = await testDatabase({ migrations: serviceMigrations, maxConnections: 8 });
  await createEffects(database);
  let connection: KafkaConnection;
  const ending: (() => Promise<unknown>)[] = [];

  beforeEach(async () => {
    await database.query({ text: "TRUNCATE effects, inbox, fences, dead_letters" });
    connection = testKafka();
    const log = openKafkaLog({ connection, logger: testLog, metrics: new Metrics(), timings: testTimings });
    ending.push(() => log.close());
    await log.ensureTopics(topicsOf([OrderCreatedSchema]));
    const running = await startTestConsumer({
      database,
      log,
      consumer: consumer(
        on(OrderCreatedSchema, {
          write: (tx, { orderId, description }, { id }) => tx.insert(effects, { id, key: orderId, value: description }),
        }),
      ),
    });
    ending.push(() => running.stop());
  });
  afterEach(async () => {
    for (const end of ending.splice(0).reverse()) await end();
  });

  const publish = async (messages: readonly Omit<MessageToProduce, "topic" | "partition">[]): Promise<void> => {
    const producer = new Producer({ ...clientOptions(connection), idempotent: true });
    ending.push(() => producer.close());
    for (const message of messages)
      await producer.send({ messages: [{ ...message, topic: `${connection.prefix}orders.events`, partition: 0 }] });
  };
  const good = (value: string): Omit<MessageToProduce, "topic" | "partition"> =>
    toMessage(orderCreated(uuidv7(), value), { topic: "", partition: 0, frameHeader: undefined });

  test.each<[string, Readonly<Record<string, string>>]>([
    ["an id that isn't one", { "event-id": "\0" }],
    ["an id as long as a message", { "event-id": "x".repeat(200_000) }],
    ["a time before all times", { "occurred-at": "-1" }],
    ["a time past all times", { "occurred-at": "9007199254740991" }],
    ["a time that is none", { "occurred-at": "tomorrow" }],
    ["a trace that is none", { traceparent: "00-\0-zz" }],
    ["an actor with NUL", { actor: "user \0", "causation-id": "\ud800" }],
  ])("%s in a header: its event is parked, shown, replayed and dropped as any other, and holds nobody up", async (_, said) => {
    const headers = { "event-id": uuidv7(), "event-type": type, ...said };
    await publish([{ key: Buffer.from("k\0"), value: Buffer.from("no message"), headers: buffers(headers) }, good("after")]);
    await until(async () => expect(await allEffects(database)).toEqual(["after"]));
    const dead = async () => (await listDeadLetters(database)).filter(({ state }) => state === "dead");
    await until(async () => expect(await dead()).toHaveLength(1));
    const [letter] = await dead();
    expect(JSON.parse(JSON.stringify(letter))).toMatchObject({ group, type, occurredAt: expect.stringMatching(/Z$/) });
    const { eventId = "" } = letter ?? {};
    expect(await showDeadLetter(database, { group, eventId }, [OrderCreatedSchema])).toMatchObject({ type, payloadBytes: 10 });
    expect(await replayDeadLetters(database, { group })).toBe(1);
    await until(async () => expect((await dead()).map(({ tries }) => tries)).toEqual([letter?.tries]));
    expect(await dropDeadLetters(database, { group, eventId })).toBe(1);
    expect(await listDeadLetters(database)).toEqual([]);
  });

  test("what names no type, or one that the consumer doesn't know, is skipped, whatever it holds", async () => {
    await publish([
      { key: Buffer.from("k"), headers: new Map() },
      { value: Buffer.from([0]), headers: new Map() },
      { key: Buffer.from("k"), value: Buffer.alloc(700_000, 0xff), headers: new Map() },
      { key: Buffer.from("k"), value: Buffer.from("x"), headers: buffers({ "event-type": "__proto__", "event-id": "constructor" }) },
      good("after"),
    ]);
    await until(async () => expect(await allEffects(database)).toEqual(["after"]));
    expect(await listDeadLetters(database)).toEqual([]);
  });
});

const buffers = (headers: Readonly<Record<string, string>>): Map<Buffer, Buffer> =>
  new Map(Object.entries(headers).map(([name, text]) => [Buffer.from(name), Buffer.from(text)]));
