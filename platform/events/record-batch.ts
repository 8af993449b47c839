import type { EventRecord } from "#platform/events/record.ts";

/*
 * Many records as one column: version, number of texts, the texts, number of records, the records. Topic, type, trace, actor
 * and cause are mostly the same from record to record, so they stand once in the texts and a record names them by number;
 * numbers are unsigned LEB128. A payload is kept as it is, and decoding only points at it.
 */
const VERSION = 1;
const VARINT_BYTES_MAX = 8;

/** Encodes records, in order. Lone surrogates become U+FFFD. */
export function encodeRecordBatch(records: readonly EventRecord[]): Buffer {
  const numbers = new Map<string, number>();
  const texts: string[] = [];
  const number = (text: string): number => {
    const known = numbers.get(text);
    if (known !== undefined) return known;
    numbers.set(text, texts.length);
    return texts.push(text) - 1;
  };
  let bound = 1 + 2 * VARINT_BYTES_MAX;
  const shared = records.map((record) => {
    bound += (record.key.length + record.eventId.length) * 3 + record.payload.length + 9 * VARINT_BYTES_MAX;
    return [number(record.topic), number(record.type), number(record.traceparent), number(record.actor), number(record.causationId)];
  });
  for (const text of texts) bound += text.length * 3 + VARINT_BYTES_MAX;

  const bytes = Buffer.allocUnsafe(bound);
  let at = bytes.writeUInt8(VERSION, 0);
  at = writeVarint(bytes, texts.length, at);
  for (const text of texts) at = writeText(bytes, text, at);
  at = writeVarint(bytes, records.length, at);
  records.forEach((record, i) => {
    for (const n of shared[i] ?? []) at = writeVarint(bytes, n, at);
    at = writeText(bytes, record.key, at);
    at = writeText(bytes, record.eventId, at);
    at = writeVarint(bytes, record.occurredAtMs, at);
    at = writeVarint(bytes, record.payload.length, at);
    bytes.set(record.payload, at);
    at += record.payload.length;
  });
  return bytes.subarray(0, at);
}

/**
 * The records that `encodeRecordBatch` encoded. Payloads are views of `bytes`, still encoded. Throws where the version is
 * unknown or the bytes are cut off.
 */
export function decodeRecordBatch(bytes: Buffer): EventRecord[] {
  const reader = { bytes, at: 1 };
  if (bytes[0] !== VERSION) throw new Error(`record batch: version ${bytes[0]} is unknown to this code`);
  const texts = Array.from({ length: readLength(reader) }, () => readText(reader));
  const text = (): string => {
    const found = texts[readVarint(reader)];
    if (found === undefined) throw new Error("record batch: names a text that it doesn't hold");
    return found;
  };
  const records = Array.from({ length: readLength(reader) }, (): EventRecord => {
    const [topic, type, traceparent, actor, causationId] = [text(), text(), text(), text(), text()];
    const key = readText(reader);
    const eventId = readText(reader);
    const occurredAtMs = readVarint(reader);
    const payload = readBytes(reader);
    return { topic, key, eventId, type, occurredAtMs, traceparent, actor, causationId, payload };
  });
  if (reader.at !== bytes.length) throw new Error("record batch: more bytes than records");
  return records;
}

type Reader = { readonly bytes: Buffer; at: number };

function writeVarint(bytes: Buffer, value: number, start: number): number {
  let at = start;
  let rest = value;
  // Past 31 bits by division: times in milliseconds don't fit JavaScript's shifts.
  while (rest > 0x7fffffff) {
    bytes[at++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  while (rest > 0x7f) {
    bytes[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  bytes[at++] = rest;
  return at;
}

function writeText(bytes: Buffer, text: string, start: number): number {
  const length = Buffer.byteLength(text);
  const at = writeVarint(bytes, length, start);
  return at + bytes.write(text, at, length);
}

function readVarint(reader: Reader): number {
  let value = 0;
  let scale = 1;
  for (;;) {
    const next = reader.bytes[reader.at++];
    if (next === undefined) throw new Error("record batch: cut off");
    value += (next & 0x7f) * scale;
    if (next < 0x80) return value;
    scale *= 128;
  }
}

/** A number of things of which each takes a byte at least: more than there are bytes is a broken batch, not an allocation. */
function readLength(reader: Reader): number {
  const length = readVarint(reader);
  if (length > reader.bytes.length - reader.at) throw new Error("record batch: cut off");
  return length;
}

function readBytes(reader: Reader): Buffer {
  const length = readLength(reader);
  const start = reader.at;
  reader.at += length;
  return reader.bytes.subarray(start, reader.at);
}

function readText(reader: Reader): string {
  const length = readLength(reader);
  const start = reader.at;
  reader.at += length;
  return reader.bytes.toString("utf8", start, reader.at);
}
