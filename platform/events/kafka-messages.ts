import { fromBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { KafkaRecord, MessageToProduce } from "@platformatic/kafka";
import { EnvelopeSchema } from "#contracts/polis/options/v1/envelope_pb.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { unframe } from "#platform/schemas/wire-format.ts";

/*
 * An event as a message of Kafka: the key is the event's key, the value its Protobuf message (after the schema
 * registry's header, where there is one), and what the platform knows of it stands in headers, so that a reader needn't decode what it skips.
 */

const header = (name: string) => ({ name, bytes: Buffer.from(name) });

const HEADERS = {
  eventId: header("event-id"),
  type: header("event-type"),
  occurredAt: header("occurred-at"),
  traceparent: header("traceparent"),
  actor: header("actor"),
  causationId: header("causation-id"),
};

const LATEST_MS = 8_640_000_000_000_000;

/** The message of a record for a partition of a topic; `frameHeader` goes in front of its payload. */
export function toMessage(
  record: EventRecord,
  { topic, partition, frameHeader }: { readonly topic: string; readonly partition: number; readonly frameHeader: Uint8Array | undefined },
): MessageToProduce {
  const headers = new Map([
    [HEADERS.eventId.bytes, Buffer.from(record.eventId)],
    [HEADERS.type.bytes, Buffer.from(record.type)],
    [HEADERS.occurredAt.bytes, Buffer.from(String(record.occurredAtMs))],
    [HEADERS.traceparent.bytes, Buffer.from(record.traceparent)],
    [HEADERS.actor.bytes, Buffer.from(record.actor)],
    [HEADERS.causationId.bytes, Buffer.from(record.causationId)],
  ]);
  const value = frameHeader === undefined ? asBuffer(record.payload) : Buffer.concat([frameHeader, record.payload]);
  return { topic, partition, key: Buffer.from(record.key), value, headers };
}

/** About how many bytes a message takes in a batch. */
export const messageBytes = ({ key, payload, traceparent, actor, causationId, type }: EventRecord): number =>
  payload.length + key.length * 3 + traceparent.length + actor.length + causationId.length + type.length + 160;

/**
 * The record of a message. One without our headers, as another publisher writes it, is known by the first fields of its payload,
 * which all events share; what can't be read keeps its bytes, and the reader judges it. A message without a value is a record
 * without a payload.
 */
export function toRecord(topic: string, partition: number, offset: bigint, message: KafkaRecord): EventRecord {
  const headers = new Map(message.headers.map(([name, value]) => [name?.toString() ?? "", value?.toString() ?? ""]));
  const said = (which: keyof typeof HEADERS): string | undefined => headers.get(HEADERS[which].name) || undefined;
  const payload = payloadOf(message.value ?? Buffer.alloc(0));
  const told = said("eventId") !== undefined && said("type") !== undefined ? undefined : envelope(payload);
  return {
    topic,
    key: message.key?.toString() ?? "",
    // Without any id it is known by its place, which it keeps when it comes again.
    eventId: said("eventId") ?? (told?.eventId || `${topic}/${partition}/${offset}`),
    type: said("type") ?? told?.eventType ?? "",
    occurredAtMs: timeOf(Number(said("occurredAt") ?? Number.NaN)) ?? timeOf(told?.occurredAt && timestampMs(told.occurredAt)) ?? 0,
    traceparent: said("traceparent") ?? "",
    actor: said("actor") ?? "",
    causationId: said("causationId") ?? "",
    payload,
  };
}

/** A time that can be kept and shown: since 1970, and no later than JavaScript's last. */
const timeOf = (ms: number | undefined): number | undefined =>
  ms !== undefined && Number.isInteger(ms) && ms >= 0 && ms <= LATEST_MS ? ms : undefined;

function payloadOf(value: Buffer): Buffer {
  try {
    return unframe(value).payload;
  } catch {
    return value;
  }
}

function envelope(payload: Buffer) {
  try {
    return fromBinary(EnvelopeSchema, payload);
  } catch {
    return undefined;
  }
}

const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
