import { create, createFileRegistry, type DescMessage, fromBinary, setExtension } from "@bufbuild/protobuf";
import {
  type DescriptorProto,
  DescriptorProtoSchema,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  file_google_protobuf_timestamp,
  FieldDescriptorProto_Label as Label,
  MessageOptionsSchema,
  TimestampSchema,
  FieldDescriptorProto_Type as Type,
  timestampMs,
} from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { EventSchema, event as eventOption } from "#contracts/polis/options/v1/options_pb.ts";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { PaymentFailedSchema, PaymentSucceededSchema } from "#contracts/polis/payments/v1/events_pb.ts";
import { assertPublishable, eventOptions, newEvent, readEvent, topicsOf } from "#platform/events/event-types.ts";
import { uuidv7 } from "#platform/ids.ts";

const headers = { nowMs: 1_700_000_000_123, traceparent: "00-1", actor: "user:u", causationId: "c" };
const data = () => ({ orderId: uuidv7(), userId: uuidv7(), amount: 5n, currency: "RUB", description: "d" });

test("an event is filled in, keyed and readable", () => {
  const order = data();
  const record = newEvent(OrderCreatedSchema, order, headers);
  expect(record).toMatchObject({
    topic: "orders.events",
    key: order.orderId,
    type: "polis.orders.v1.OrderCreated",
    occurredAtMs: headers.nowMs,
    actor: "user:u",
  });
  const event = readEvent(OrderCreatedSchema, record);
  expect(event).toMatchObject({ eventId: record.eventId, eventType: record.type, data: order });
  expect(event.occurredAt && timestampMs(event.occurredAt)).toBe(headers.nowMs);
  expect(fromBinary(OrderCreatedSchema, record.payload).eventId).toBe(record.eventId);
});

test("an event that breaks its contract, or is too large, isn't published", () => {
  expect(() => newEvent(OrderCreatedSchema, { ...data(), amount: 0n }, headers)).toThrow(/OrderCreated breaks its contract.*amount/);
  expect(() => newEvent(OrderCreatedSchema, { ...data(), description: "x".repeat(300_000) }, headers)).toThrow(/at most 262144/);
  const record = newEvent(OrderCreatedSchema, data(), headers);
  expect(() => assertPublishable({ ...record, key: "" })).toThrow("has no key");
  assertPublishable({ ...record, key: "ж".repeat(256) });
  for (const key of ["ж".repeat(257), "a\0b"])
    expect(() => assertPublishable({ ...record, key })).toThrow("has a key that is longer than 512");
  expect(() => readEvent(OrderCreatedSchema, { ...record, payload: Buffer.from([255]) })).toThrow();
});

test("events of a topic agree", () => {
  expect(topicsOf([PaymentSucceededSchema, PaymentFailedSchema])).toEqual([
    { name: "payments.events", partitions: 4, retentionMs: 604_800_000 },
  ]);
  const other = made("Other", { key: "data.id", topic: "payments.events", partitions: 8 });
  expect(() => topicsOf([PaymentSucceededSchema, other])).toThrow("test.v1.Other and polis.payments.v1.PaymentSucceeded disagree");
});

test("a contract that can't be served is named", () => {
  expect(() => eventOptions(TimestampSchema)).toThrow("google.protobuf.Timestamp: option (polis.options.v1.event) is missing");
  expect(() => eventOptions(made("NoTopic", { key: "data.id", topic: "" }))).toThrow("test.v1.NoTopic: `topic` is missing");
  expect(() => eventOptions(made("NoField", { key: "data.no" }))).toThrow(
    "test.v1.NoField: `key`: `data.no` is no field of test.v1.NoField",
  );
  expect(() => eventOptions(made("Message", { key: "data" }))).toThrow("test.v1.Message: `key`: `data` must be a string");
  expect(() => eventOptions(made("Shape", { key: "data.id", first: "id" }))).toThrow("fields 1 to 3 must be event_id string");
  expect(eventOptions(made("Good", { key: "data.id", partitions: 2 }))).toMatchObject({ topic: "test", partitions: 2 });
});

/** An event of a contract of our own: `data` holds a text `id`. */
function made(name: string, said: { key: string; topic?: string; partitions?: number; first?: string }): DescMessage {
  const options = create(MessageOptionsSchema);
  setExtension(options, eventOption, create(EventSchema, { topic: said.topic ?? "test", key: said.key, partitions: said.partitions ?? 0 }));
  const field = (fieldName: string, number: number, type: Type, typeName = "") => ({
    name: fieldName,
    number,
    type,
    typeName,
    label: Label.OPTIONAL,
    jsonName: fieldName,
  });
  const message: DescriptorProto = create(DescriptorProtoSchema, {
    name,
    options,
    field: [
      field(said.first ?? "event_id", 1, Type.STRING),
      field("event_type", 2, Type.STRING),
      field("occurred_at", 3, Type.MESSAGE, ".google.protobuf.Timestamp"),
      field("data", 4, Type.MESSAGE, `.test.v1.${name}.Data`),
    ],
    nestedType: [create(DescriptorProtoSchema, { name: "Data", field: [field("id", 1, Type.STRING)] })],
  });
  const file = create(FileDescriptorProtoSchema, {
    name: "test.proto",
    package: "test.v1",
    syntax: "proto3",
    dependency: ["google/protobuf/timestamp.proto"],
    messageType: [message],
  });
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: [file_google_protobuf_timestamp.proto, file] }));
  return registry.getMessage(`test.v1.${name}`) as DescMessage;
}
