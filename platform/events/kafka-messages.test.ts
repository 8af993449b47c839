import { toBinary } from "@bufbuild/protobuf";
import type { KafkaRecord } from "@platformatic/kafka";
import { expect, test } from "vitest";
import { type OrderCreated, OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { orderCreated } from "#platform/events/event-log.testing.ts";
import { readEvent } from "#platform/events/event-types.ts";
import { toMessage, toRecord } from "#platform/events/kafka-messages.ts";
import { uuidv7 } from "#platform/ids.ts";
import { frameHeader } from "#platform/schemas/wire-format.ts";

/** A message as a fetch brings it. */
const fetched = (value: Uint8Array | null, headers: readonly [string, string][] = [], key = "k"): KafkaRecord => ({
  length: 0,
  attributes: 0,
  timestampDelta: 0n,
  offsetDelta: 0,
  key: Buffer.from(key),
  value: value === null ? null : Buffer.from(value),
  headers: headers.map(([name, text]) => [Buffer.from(name), Buffer.from(text)]),
});

const order = orderCreated(uuidv7(), "a");

test("a record comes back from its message, with a schema registry's header and without", () => {
  for (const header of [undefined, frameHeader(7, [0])]) {
    const { topic, partition = -1, key, value, headers } = toMessage(order, { topic: "outside", partition: 3, frameHeader: header });
    expect({ topic, partition }).toEqual({ topic: "outside", partition: 3 });
    expect(value?.subarray(0, header?.length ?? 0)).toEqual(header ?? Buffer.alloc(0));
    const pairs = [...(headers as Map<Buffer, Buffer>)].map(([name, text]) => [name.toString(), text.toString()] as [string, string]);
    const found = toRecord("orders.events", 3, 9n, fetched(value as Buffer, pairs, key?.toString()));
    expect({ ...found, payload: Buffer.from(found.payload) }).toEqual({ ...order, payload: Buffer.from(order.payload) });
  }
});

test("a message of another publisher, without headers, is known by what its payload says first", () => {
  const found = toRecord("orders.events", 0, 5n, fetched(Buffer.concat([frameHeader(1, [2]), order.payload])));
  expect(found).toMatchObject({
    key: "k",
    eventId: order.eventId,
    type: order.type,
    occurredAtMs: order.occurredAtMs,
    actor: "",
    causationId: "",
  });
  expect(toBinary(OrderCreatedSchema, readEvent(OrderCreatedSchema, found) as OrderCreated)).toEqual(new Uint8Array(order.payload));
});

test("an empty header is none: two messages with one are two events", () => {
  const empty: [string, string][] = [
    ["event-id", ""],
    ["event-type", ""],
  ];
  const [one, two] = [order, orderCreated(uuidv7(), "b")].map(({ payload }) => toRecord("orders.events", 0, 5n, fetched(payload, empty)));
  expect([one?.eventId, one?.type]).toEqual([order.eventId, order.type]);
  expect(two?.eventId).not.toBe(one?.eventId);
});

test("a message that can't be read is a record all the same, known by its place", () => {
  for (const value of [null, Buffer.from("garbage"), Buffer.from([0]), Buffer.from([0, 0, 0, 0, 1, 0xff])]) {
    const found = toRecord("t", 2, 11n, fetched(value));
    expect(found).toMatchObject({ topic: "t", eventId: "t/2/11", type: "", occurredAtMs: 0 });
    expect(Buffer.from(found.payload)).toEqual(value ?? Buffer.alloc(0));
  }
});

test("an event whose header says its type and whose value is cut off keeps its bytes, for its consumer to judge", () => {
  const headers: [string, string][] = [
    ["event-id", order.eventId],
    ["event-type", order.type],
  ];
  const found = toRecord("t", 0, 0n, fetched(Buffer.from([0, 0, 0]), headers));
  expect(found).toMatchObject({ eventId: order.eventId, type: order.type });
  expect(() => readEvent(OrderCreatedSchema, found)).toThrow();
});
