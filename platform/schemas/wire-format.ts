/*
 * The wire format of schema registries (Confluent's): a message follows the byte 0, the id of its schema (4 bytes, big
 * endian) and the way to its type among those of the schema's file: its place, or for a nested type the places from the
 * outermost on, as a count and numbers (zigzag varints), of which the first place, [0], is written as the single byte 0.
 */

const MAGIC = 0;

/** The bytes in front of a message. */
export function frameHeader(schemaId: number, messageIndexes: readonly number[]): Buffer {
  const numbers = messageIndexes.length === 1 && messageIndexes[0] === 0 ? [0] : [messageIndexes.length, ...messageIndexes];
  const start = Buffer.alloc(5);
  start.writeUInt8(MAGIC, 0);
  start.writeUInt32BE(schemaId, 1);
  return Buffer.concat([start, Buffer.from(numbers.flatMap(varint))]);
}

/**
 * What follows such a header; the value as it is where it has none, since no Protobuf message begins with a 0. Throws where
 * the header is cut off.
 */
export function unframe(value: Buffer): { readonly schemaId: number | undefined; readonly payload: Buffer } {
  if (value.length === 0 || value[0] !== MAGIC) return { schemaId: undefined, payload: value };
  const reader = { value, at: 5 };
  const count = readVarint(reader);
  for (let i = 0; i < count; i++) readVarint(reader);
  return { schemaId: value.readUInt32BE(1), payload: value.subarray(reader.at) };
}

/** A place that is never negative: zigzag doubles it. */
function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value * 2;
  for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest);
  return bytes;
}

function readVarint(reader: { readonly value: Buffer; at: number }): number {
  let read = 0;
  for (let shift = 0; shift < 32; shift += 7) {
    const byte = reader.value[reader.at++];
    if (byte === undefined) break;
    read |= (byte & 0x7f) << shift;
    if (byte < 0x80) return read >>> 1;
  }
  throw new Error("the header of the schema registry's wire format is cut off");
}
