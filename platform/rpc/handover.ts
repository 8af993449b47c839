import { clone, create, type DescField, type DescMessage, type DescOneof, type Message, ScalarType, toBinary } from "@bufbuild/protobuf";
import { contentOf, isOneof } from "#platform/contract/message-fields.ts";

// What is handed from one service to another is copied, in process as over the wire, so that nothing is shared; and what
// the wire would refuse (a number out of its range, a value of another type) is refused. The copying is compiled once for
// each type: protobuf-es' `clone` goes by reflection and costs three times as much.

/** The largest message, in bytes of its encoding. */
export const MESSAGE_BYTES_MAX = 4 * 1024 * 1024;

/** Thrown for a message over MESSAGE_BYTES_MAX. */
export class MessageTooLarge extends Error {
  override readonly name = "MessageTooLarge";
}

/** Counts while copying: never less than the bytes of the encoding. */
type Size = { bytesAtMost: number };
type Copy = (value: unknown, size: Size) => unknown;
type Fields = Record<string, unknown>;

/**
 * A copy of a message that shares nothing with it; plain objects become messages on the way. Throws MessageTooLarge, and
 * TypeError for a value that the field's type doesn't allow.
 */
export function handOver(schema: DescMessage, message: object): Message {
  const size: Size = { bytesAtMost: 0 };
  const copied = copyOf(schema)(message, size) as Message;
  // What counts for the limit is only worked out where it could be over it.
  if (size.bytesAtMost > MESSAGE_BYTES_MAX) {
    const { byteLength } = toBinary(schema, copied);
    if (byteLength > MESSAGE_BYTES_MAX)
      throw new MessageTooLarge(`${schema.typeName}: ${byteLength} bytes; a message has at most ${MESSAGE_BYTES_MAX}`);
  }
  return copied;
}

const copies = new WeakMap<DescMessage, Copy>();

function copyOf(schema: DescMessage): Copy {
  const known = copies.get(schema);
  if (known !== undefined) return known;
  // Presence works by prototype outside of proto3; no contract of ours is written so.
  if (schema.file.proto.syntax !== "proto3") return copyByReflection(schema);
  const { typeName } = schema;
  const members: { name: string; copy: Copy; empty: (() => unknown) | undefined }[] = [];
  const copy: Copy = (value, size) => {
    if (typeof value !== "object" || value === null) throw new TypeError(`${typeName}: not a message: ${String(value)}`);
    const source = value as Fields;
    if (source.$typeName !== undefined && source.$typeName !== typeName)
      throw new TypeError(`${typeName}: another message: ${String(source.$typeName)}`);
    // Tag and length of its own, should it be a field.
    size.bytesAtMost += 10;
    const target: Fields = { $typeName: typeName };
    for (const member of members) {
      const held = source[member.name];
      if (held !== undefined && held !== null) target[member.name] = member.copy(held, size);
      else if (member.empty !== undefined) target[member.name] = member.empty();
    }
    if (source.$unknown !== undefined) target.$unknown = copyUnknown(source.$unknown as NonNullable<Message["$unknown"]>, size);
    return target;
  };
  copies.set(schema, copy);
  for (const member of schema.members) members.push({ name: member.localName, copy: copyMember(member), empty: emptyOf(member) });
  return copy;
}

function copyByReflection(schema: DescMessage): Copy {
  return (value, size) => {
    const copied = clone(schema, create(schema, value as Message));
    size.bytesAtMost += toBinary(schema, copied).byteLength + 10;
    return copied;
  };
}

function copyUnknown(fields: NonNullable<Message["$unknown"]>, size: Size): Message["$unknown"] {
  return fields.map((field) => {
    size.bytesAtMost += field.data.byteLength + 10;
    return { ...field, data: new Uint8Array(field.data) };
  });
}

/** What stands in a message where nothing was said. */
function emptyOf(member: DescField | DescOneof): (() => unknown) | undefined {
  if (isOneof(member)) return () => ({ case: undefined });
  if (member.fieldKind === "list") return () => [];
  if (member.fieldKind === "map") return () => ({});
  // Where presence is told apart (messages, `optional`), absent is absent.
  const zero = (create(member.parent) as unknown as Fields)[member.localName];
  return zero === undefined ? undefined : () => zero;
}

function copyMember(member: DescField | DescOneof): Copy {
  if (isOneof(member)) {
    const cases = new Map(member.fields.map((field) => [field.localName, copyContent(field)]));
    return (value, size) => {
      const { case: chosen, value: held } = value as { case: string | undefined; value: unknown };
      if (chosen === undefined) return { case: undefined };
      const copy = cases.get(chosen);
      if (copy === undefined) throw new TypeError(`${member}: no such case: ${chosen}`);
      return { case: chosen, value: copy(held, size) };
    };
  }
  const copy = copyContent(member);
  if (member.fieldKind === "list") {
    return (list, size) => {
      if (!Array.isArray(list)) throw new TypeError(`${member}: not an array`);
      return list.map((item) => copy(item, size));
    };
  }
  if (member.fieldKind === "map") {
    return (map, size) => {
      const target: Fields = {};
      for (const [key, item] of Object.entries(map as object)) {
        size.bytesAtMost += key.length * 3 + 20;
        const value = copy(item, size);
        // Assigned, it would set the prototype.
        if (key === "__proto__") Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
        else target[key] = value;
      }
      return target;
    };
  }
  return copy;
}

function copyContent(field: DescField): Copy {
  const content = contentOf(field);
  if (content.kind === "json") return copyJson;
  if (content.kind === "scalar") return copyScalar(field, content.scalar, content.longAsString);
  // Compiled on first use: the type can be the one that is being compiled.
  let copy: Copy | undefined;
  return (value, size) => {
    copy ??= copyOf(content.message);
    return copy(value, size);
  };
}

const copyJson: Copy = (value, size) => {
  size.bytesAtMost += 30;
  if (typeof value === "string") size.bytesAtMost += value.length * 3;
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => copyJson(item, size));
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => {
      size.bytesAtMost += key.length * 3;
      return [key, copyJson(item, size)];
    }),
  );
};

const INT32: readonly [number, number] = [-0x80000000, 0x7fffffff];
const UINT32: readonly [number, number] = [0, 0xffffffff];
const INT64: readonly [bigint, bigint] = [-(2n ** 63n), 2n ** 63n - 1n];
const UINT64: readonly [bigint, bigint] = [0n, 2n ** 64n - 1n];

function copyScalar(field: DescField, scalar: ScalarType, longAsString: boolean): Copy {
  const refuse = (value: unknown): never => {
    throw new TypeError(`${field}: not a value of ${ScalarType[scalar].toLowerCase()}: ${typeof value}`);
  };
  const integer =
    ([least, greatest]: readonly [number, number]): Copy =>
    (value, size) => {
      size.bytesAtMost += 16;
      return Number.isInteger(value) && (value as number) >= least && (value as number) <= greatest ? value : refuse(value);
    };
  const long =
    ([least, greatest]: readonly [bigint, bigint]): Copy =>
    (value, size) => {
      size.bytesAtMost += 16;
      const exact = longAsString && typeof value === "string" ? BigInt(value) : value;
      return typeof exact === "bigint" && exact >= least && exact <= greatest ? value : refuse(value);
    };
  switch (scalar) {
    case ScalarType.STRING:
      return (value, size) => {
        if (typeof value !== "string") return refuse(value);
        size.bytesAtMost += value.length * 3 + 10;
        return value;
      };
    case ScalarType.BYTES:
      return (value, size) => {
        if (!(value instanceof Uint8Array)) return refuse(value);
        size.bytesAtMost += value.byteLength + 10;
        return new Uint8Array(value);
      };
    case ScalarType.BOOL:
      return (value, size) => {
        size.bytesAtMost += 6;
        return typeof value === "boolean" ? value : refuse(value);
      };
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return (value, size) => {
        size.bytesAtMost += 14;
        if (typeof value !== "number") return refuse(value);
        // The wire keeps four bytes of a float.
        return scalar === ScalarType.FLOAT ? Math.fround(value) : value;
      };
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return integer(UINT32);
    case ScalarType.INT32:
    case ScalarType.SINT32:
    case ScalarType.SFIXED32:
      return integer(INT32);
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return long(UINT64);
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return long(INT64);
  }
}
