import { randomUUID } from "node:crypto";
import { KvUnavailable, type Values } from "#platform/kv/engine.ts";

/** How long a copy serves at the most: so long, too, what a lost message leaves behind is wrong. */
const COPY_MS = 30_000;
/** Who asks PostgreSQL has so long to bring what it found. */
const LEASE_MS = 5_000;
/** Longer than a write takes; while it lasts, nothing is copied. */
const WRITE_MS = 10_000;

/** Values in PostgreSQL, with how long each of them still lives. */
export type KeptValues = Values & {
  getTimed(keys: readonly string[]): Promise<({ readonly value: Uint8Array; readonly leftMs: number | undefined } | undefined)[]>;
};

// The first byte of what stands in the copies says what it is.
const COPY = 0;
const LEASE = 1;
const WRITE = 2;

/**
 * Values that are in PostgreSQL and are decided there, with copies of them where they are read faster. A copy is never older than what
 * was written last:
 *   who finds none takes a lease before it asks PostgreSQL, and puts its copy only in the place of that lease;
 *   who writes puts a mark there before, which takes everybody's lease away, and takes the mark away after.
 * A process that dies between its commit and the end of its mark leaves the mark, which ends by itself. Where the copies are away,
 * PostgreSQL serves alone; a process that can't reach them, while others can, leaves these a copy for half a minute.
 */
export function copiedValues(kept: KeptValues, copies: Values): Values {
  const written = async <T>(keys: readonly string[], write: () => Promise<T>): Promise<T> => {
    const mark = tagged(WRITE, Buffer.from(randomUUID()));
    await quietly(() => Promise.all(keys.map((key) => copies.set(key, mark, WRITE_MS))));
    try {
      return await write();
    } finally {
      await quietly(() => Promise.all(keys.map((key) => endMark(copies, key, mark))));
    }
  };
  return {
    async get(keys) {
      const copied = (await quietly(() => copies.get(keys))) ?? [];
      const missing = keys.filter((_, n) => copied[n]?.[0] !== COPY);
      const asked = missing.length === 0 ? new Map<string, Uint8Array>() : await askAndCopy(kept, copies, missing);
      return keys.map((key, n) => {
        const copy = copied[n];
        return copy?.[0] === COPY ? copy.subarray(1) : asked.get(key);
      });
    },
    set: (key, value, ttlMs) => written([key], () => kept.set(key, value, ttlMs)),
    delete: (keys) => written(keys, () => kept.delete(keys)),
    add: (key, value, ttlMs) => written([key], () => kept.add(key, value, ttlMs)),
    compareAndSet: (key, from, to, ttlMs) => written([key], () => kept.compareAndSet(key, from, to, ttlMs)),
  };
}

async function askAndCopy(kept: KeptValues, copies: Values, keys: readonly string[]): Promise<Map<string, Uint8Array>> {
  const lease = tagged(LEASE, Buffer.from(randomUUID()));
  const leased = (await quietly(() => Promise.all(keys.map((key) => copies.add(key, lease, LEASE_MS))))) ?? [];
  const found = await kept.getTimed(keys);
  const asked = new Map<string, Uint8Array>();
  const puts: Promise<unknown>[] = [];
  for (const [n, key] of keys.entries()) {
    const held = found[n];
    if (held === undefined) continue;
    asked.set(key, held.value);
    if (leased[n] !== true) continue;
    const ttlMs = Math.min(COPY_MS, held.leftMs ?? COPY_MS);
    if (ttlMs >= 1) puts.push(copies.compareAndSet(key, lease, tagged(COPY, held.value), Math.floor(ttlMs)));
  }
  await quietly(() => Promise.all(puts));
  return asked;
}

/** Ends a write's mark. Where another writes, its mark stays; what was copied meanwhile may be of before this write. */
async function endMark(copies: Values, key: string, mark: Uint8Array): Promise<void> {
  for (;;) {
    const [now] = await copies.get([key]);
    if (now === undefined || (now[0] === WRITE && Buffer.compare(now, mark) !== 0)) return;
    if (await copies.compareAndSet(key, now, undefined, undefined)) return;
  }
}

function tagged(tag: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(value.length + 1);
  bytes[0] = tag;
  bytes.set(value, 1);
  return bytes;
}

/** Copies that are away are done without. */
async function quietly<T>(run: () => Promise<T>): Promise<T | undefined> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof KvUnavailable) return undefined;
    throw error;
  }
}
