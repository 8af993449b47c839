import { hash, randomFillSync } from "node:crypto";

const pool = Buffer.allocUnsafeSlow(4096);
let used = pool.length;
let lastMs = 0;
let sequence = 0;

const HEX: readonly string[] = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

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
  const at = used;
  used += 8;
  const ms = lastMs.toString(16).padStart(12, "0");
  const counter = (0x7000 | sequence).toString(16);
  const variant = HEX[0x80 | ((pool[at] ?? 0) & 0x3f)];
  const byte = (index: number): string => HEX[pool[at + index] ?? 0] as string;
  return `${ms.slice(0, 8)}-${ms.slice(8)}-${counter}-${variant}${byte(1)}-${byte(2)}${byte(3)}${byte(4)}${byte(5)}${byte(6)}${byte(7)}`;
}

/** The same parts give the same UUID (version 8, from SHA-256): for ids derived from others. */
export function derivedUuid(...parts: readonly string[]): string {
  // Lengths stand before the parts, so that ("a", "bc") and ("ab", "c") differ.
  let whole = "";
  for (const part of parts) whole += `${part.length}:${part}`;
  return asUuid(hash("sha256", whole, "hex"));
}

/** The first 128 bits of a SHA-256 as a UUID (version 8): short enough for an index, long enough to be unique. */
export const hashUuid = (bytes: Uint8Array): string => asUuid(hash("sha256", bytes, "hex"));

function asUuid(hex: string): string {
  const variant = HEX[0x80 | (Number.parseInt(hex.slice(16, 18), 16) & 0x3f)];
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(18, 20)}-${hex.slice(20, 32)}`;
}
