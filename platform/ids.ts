import { hash, randomFillSync } from "node:crypto";

const pool = Buffer.allocUnsafeSlow(4096);
let used = pool.length;
let lastMs = 0;
let sequence = 0;

/**
 * A UUIDv7 (RFC 9562): millisecond, then a counter of 12 bits, then random bits, so that ids made by one process grow and
 * land at the end of an index.
 */
export function uuidv7(nowMs: number = Date.now()): string {
  if (nowMs > lastMs) {
    lastMs = nowMs;
    sequence = 0;
  } else if (++sequence > 0xfff) {
    // Past 4,096 ids in a millisecond, or with the clock set back, time is borrowed from the future.
    lastMs += 1;
    sequence = 0;
  }
  if (used + 8 > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  bytes.writeUIntBE(lastMs, 0, 6);
  bytes.writeUInt16BE(sequence, 6);
  for (let i = 8; i < 16; i++) bytes[i] = pool[used++] as number;
  return textOf(7);
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Whether a text is a UUID in lower case, as all of ours are. What comes from elsewhere is lower-cased where it comes in. */
export const isUuid = (text: string): boolean => UUID.test(text);

/** The 16 bytes of a UUID. */
export const uuidBytes = (id: string): Buffer => Buffer.from(id.replaceAll("-", ""), "hex");

/** The UUID of 16 bytes, as it is written. */
export const uuidOf = (id: Uint8Array): string =>
  Buffer.from(id)
    .toString("hex")
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");

/** The least UUIDv7 of this millisecond: all ids of before come before it, as far as clocks agree. */
export const firstUuidAt = (ms: number): string =>
  `${ms
    .toString(16)
    .padStart(12, "0")
    .replace(/^(.{8})/, "$1-")}-7000-8000-000000000000`;

/** The same parts give the same UUID (version 8, from SHA-256): for ids derived from others. */
export function derivedUuid(...parts: readonly string[]): string {
  // Lengths stand before the parts, so that ("a", "bc") and ("ab", "c") differ.
  let whole = "";
  for (const part of parts) whole += `${part.length}:${part}`;
  return hashUuid(whole);
}

/** The first 128 bits of a SHA-256 as a UUID (version 8): short enough for an index, long enough to be unique. */
export function hashUuid(content: string | Uint8Array): string {
  // As a text of one byte a character: a Buffer would take four times as long to make.
  const digest = hash("sha256", content, "binary");
  for (let i = 0; i < 16; i++) bytes[i] = digest.charCodeAt(i);
  return textOf(8);
}

// An id is put together here and becomes one flat text at once: of its parts as strings it would take twice as long, and be
// flattened by whoever looks it up first.
const bytes = Buffer.alloc(16);
const text = Buffer.alloc(36, "-");
const PLACES: readonly number[] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
const DIGITS = Buffer.from("0123456789abcdef");

/** The UUID of this version whose other bits lie in `bytes`. */
function textOf(version: 7 | 8): string {
  bytes[6] = (version << 4) | ((bytes[6] as number) & 0x0f);
  bytes[8] = 0x80 | ((bytes[8] as number) & 0x3f);
  for (let i = 0; i < 16; i++) {
    const byte = bytes[i] as number;
    const place = PLACES[i] as number;
    text[place] = DIGITS[byte >>> 4] as number;
    text[place + 1] = DIGITS[byte & 0x0f] as number;
  }
  return text.toString("latin1");
}
