import { createHash } from "node:crypto";
import {
  type DescField,
  type DescMessage,
  fromBinary,
  getOption,
  hasOption,
  type Message,
  type MessageShape,
  ScalarType,
  toBinary,
} from "@bufbuild/protobuf";
import type { GenMessage } from "@bufbuild/protobuf/codegenv2";
import { durationMs, TimestampSchema, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { event as eventOption } from "#contracts/polis/options/v1/options_pb.ts";
import { breach } from "#platform/contract/rules.ts";
import { textGetter } from "#platform/contract/text-getter.ts";
import type { EventMessage } from "#platform/events/define-consumer.ts";
import { PAYLOAD_BYTES_MAX, type Topic } from "#platform/events/event-log.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { uuidv7 } from "#platform/ids.ts";
import { handOver } from "#platform/rpc/handover.ts";

/** Keys stand in indexes, whose entries PostgreSQL keeps below 2,704 bytes. */
const KEY_BYTES_MAX = 512;
const DEFAULT_PARTITIONS = 4;
const DEFAULT_RETENTION_MS = 7 * 24 * 3_600_000;

/** What a contract says of an event, with its defaults. */
export type EventOptions = {
  readonly topic: string;
  readonly keyOf: (event: object) => string;
  readonly partitions: number;
  readonly retentionMs: number;
};

const resolved = new WeakMap<DescMessage, EventOptions>();

/** Reads an event's option; throws, naming the message, where the contract breaks the rules that the option's comment gives. */
export function eventOptions(schema: DescMessage): EventOptions {
  const known = resolved.get(schema);
  if (known !== undefined) return known;
  const options = resolve(schema);
  resolved.set(schema, options);
  return options;
}

/** The topics of these events. Throws where two events of a topic disagree. */
export function topicsOf(schemas: readonly DescMessage[]): Topic[] {
  const topics = new Map<string, Topic & { readonly by: string }>();
  for (const schema of schemas) {
    const { topic: name, partitions, retentionMs } = eventOptions(schema);
    const other = topics.get(name);
    if (other !== undefined && (other.partitions !== partitions || other.retentionMs !== retentionMs))
      throw new Error(`${schema.typeName} and ${other.by} disagree on partitions or retention of ${name}`);
    topics.set(name, { name, partitions, retentionMs, by: schema.typeName });
  }
  return [...topics.values()].map(({ name, partitions, retentionMs }) => ({ name, partitions, retentionMs }));
}

/** What the platform knows of an event when it is published. */
export type EventHeaders = {
  /** A fresh UUIDv7 unless given. */
  readonly eventId?: string;
  readonly nowMs: number;
  readonly traceparent: string;
  /** callerName() of who caused it. */
  readonly actor: string;
  readonly causationId: string;
};

/** Makes an event of `data`, validated. Throws where it breaks the contract or is too large: the publisher's fault. */
export function newEvent(schema: DescMessage, data: object, headers: EventHeaders): EventRecord {
  const { topic, keyOf } = eventOptions(schema);
  const eventId = headers.eventId ?? uuidv7(headers.nowMs);
  const event = handOver(schema, { eventId, eventType: schema.typeName, occurredAt: timestampFromMs(headers.nowMs), data });
  assertValid(schema, event);
  const { nowMs: occurredAtMs, traceparent, actor, causationId } = headers;
  const record = {
    topic,
    key: keyOf(event),
    eventId,
    type: schema.typeName,
    occurredAtMs,
    traceparent,
    actor,
    causationId,
    payload: toBinary(schema, event),
  };
  assertPublishable(record);
  return record;
}

/** Throws where an event breaks the rules of its contract. */
function assertValid(schema: DescMessage, event: Message): void {
  const broken = breach(schema, event);
  if (broken !== undefined) throw new Error(`${schema.typeName} breaks its contract: ${broken.error.message}`, { cause: broken.error });
}

/** Throws where a record is too large for some engine, or its key is none, or can't be stored in an index. */
export function assertPublishable({ type, eventId, key, payload }: EventRecord): void {
  if (payload.length > PAYLOAD_BYTES_MAX)
    throw new Error(`${type} ${eventId} has ${payload.length} bytes; at most ${PAYLOAD_BYTES_MAX} are carried`);
  if (key === "") throw new Error(`${type} ${eventId} has no key`);
  if (!isIndexable(key)) throw new Error(`${type} ${eventId} has a key that is longer than ${KEY_BYTES_MAX} bytes, or holds NUL`);
}

const isIndexable = (key: string): boolean => Buffer.byteLength(key) <= KEY_BYTES_MAX && !key.includes("\0");

/** The key under which a consumer keeps an event in order: its own, or a digest where a foreign publisher's can't be stored. */
export const storableKey = (key: string): string => (isIndexable(key) ? key : `sha256:${createHash("sha256").update(key).digest("hex")}`);

/** The event that a record holds, validated. Throws where it can't be decoded or breaks its contract. */
export function readEvent<E extends EventMessage>(schema: GenMessage<E>, record: EventRecord): E;
export function readEvent(schema: DescMessage, record: EventRecord): EventMessage;
export function readEvent(schema: DescMessage, record: EventRecord): EventMessage {
  const event = fromBinary(schema, record.payload) as MessageShape<DescMessage> & EventMessage;
  assertValid(schema, event);
  if (event.data === undefined) throw new Error(`${schema.typeName} has no data`);
  return event;
}

function resolve(schema: DescMessage): EventOptions {
  const name = schema.typeName;
  if (!hasOption(schema, eventOption)) throw new Error(`${name}: option (polis.options.v1.event) is missing`);
  const said = getOption(schema, eventOption);
  const shape = ["event_id string", "event_type string", `occurred_at ${TimestampSchema.typeName}`].join(", ");
  const found = [1, 2, 3].map((n) => fieldText(schema.fields.find((field) => field.number === n))).join(", ");
  if (found !== shape) throw new Error(`${name}: fields 1 to 3 must be ${shape}, not ${found}`);
  const data = schema.fields.find((field) => field.number === 4);
  if (data?.name !== "data" || data.fieldKind !== "message") throw new Error(`${name}: field 4 must be \`data\`, a message`);
  if (said.topic === "") throw new Error(`${name}: \`topic\` is missing`);
  return {
    topic: said.topic,
    keyOf: textGetter(schema, said.key, `${name}: \`key\``),
    partitions: said.partitions === 0 ? DEFAULT_PARTITIONS : said.partitions,
    retentionMs: said.retention === undefined ? DEFAULT_RETENTION_MS : Math.floor(durationMs(said.retention)),
  };
}

const fieldText = (field: DescField | undefined): string =>
  field === undefined ? "nothing" : `${field.name} ${field.message?.typeName ?? ScalarType[field.scalar ?? 0]?.toLowerCase() ?? "enum"}`;
