import { randomBytes, randomUUID } from "node:crypto";
import { KvUnavailable, type Values } from "#platform/kv/engine.ts";

/** How long a copy serves at the most: so long, too, what a lost message leaves behind is wrong. */
const COPY_MS = 30_000;
/** Who asks PostgreSQL has so long to bring what it found. */
const LEASE_MS = 5_000;
/** Longer than a write takes, which waits for a connection (10 s) and for its answer (45 s); while it lasts, nothing is copied. */
const WRITE_MS = 60_000;

/** Values in PostgreSQL, with how long each of them still lives. */
export type KeptValues = Values & {
  getTimed(keys: readonly string[]): Promise<({ readonly value: Uint8Array; readonly leftMs: number | undefined } | undefined)[]>;
};

/** Where copies are. */
export type Copies = Values & {
  /** Another number with each connection that is made to them. */
  readonly connection: number;
};

// The first byte of what stands in the copies says what it is.
const COPY = 0;
const LEASE = 1;
const WRITE = 2;

/** The key of the copies' age, which stands in each of them; where it is another, or none, they are of before. Keys of kinds have a colon. */
const AGE = "copies";
const AGE_BYTES = 16;

/**
 * Values that are in PostgreSQL and are decided there, with copies of them where they are read faster. A copy is never older than what
 * was written last:
 *   who finds none takes a lease before it asks PostgreSQL, and puts its copy only in the place of that lease;
 *   who writes puts a mark there before, which takes everybody's lease away, and takes the mark away after;
 *   who connects, or has written without a mark, ends the age of the copies before it reads any: others may have written without marks
 *   while the copies were away, and these may be back without what was done last.
 * A process that dies between its commit and the end of its mark leaves the mark, which ends by itself. Where the copies are away,
 * PostgreSQL serves alone; a process that can't reach them, while others can, leaves these a copy until it can, at the most for half a
 * minute.
 */
export function copiedValues(kept: KeptValues, copies: Copies): Values {
  /** The connection on which all copies that are read are known to be good. */
  let goodOn: number | undefined;
  /** How often a write has ended without a mark. An age that was ended before it says nothing of the copies since. */
  let unmarked = 0;
  const endAge = async (): Promise<void> => {
    const { connection } = copies;
    const before = unmarked;
    // Not set anew: a Redis that is out of memory still deletes.
    await copies.delete([AGE]);
    if (unmarked === before) goodOn = connection;
  };
  const written = async <T>(keys: readonly string[], write: () => Promise<T>): Promise<T> => {
    const mark = tagged(WRITE, Buffer.from(randomUUID()));
    const marks = await quietly(() => Promise.all(keys.map((key) => copies.set(key, mark, WRITE_MS))));
    // Where it fails, it may still be carried out: the mark is left, and ends by itself.
    const answer = await write().finally(() => {
      if (marks !== undefined) return;
      unmarked += 1;
      goodOn = undefined;
    });
    await quietly(async () => {
      if (marks === undefined) await endAge();
      else await Promise.all(keys.map((key) => endMark(copies, key, mark)));
    });
    return answer;
  };
  /** What stands in the copies, and their age; undefined where they are away. */
  const look = async (keys: readonly string[]): Promise<Looked | undefined> => {
    if (goodOn !== copies.connection) await endAge();
    const [held, ...found] = await copies.get([AGE, ...keys]);
    if (goodOn !== copies.connection) return undefined;
    if (held !== undefined) return { age: held, found };
    const age = randomBytes(AGE_BYTES);
    return (await copies.add(AGE, age, undefined)) ? { age, found } : undefined;
  };
  return {
    async get(keys) {
      const looked = await quietly(() => look(keys));
      const copied = keys.map((_, n) => looked && copyOf(looked.found[n], looked.age));
      const missing = keys.flatMap((key, n) => (copied[n] === undefined ? { key, instead: looked?.found[n] } : []));
      const asked = missing.length === 0 ? new Map<string, Uint8Array>() : await askAndCopy(kept, copies, missing, looked?.age);
      return keys.map((key, n) => copied[n] ?? asked.get(key));
    },
    set: (key, value, ttlMs) => written([key], () => kept.set(key, value, ttlMs)),
    delete: (keys) => written(keys, () => kept.delete(keys)),
    add: (key, value, ttlMs) => written([key], () => kept.add(key, value, ttlMs)),
    compareAndSet: (key, from, to, ttlMs) => written([key], () => kept.compareAndSet(key, from, to, ttlMs)),
  };
}

type Looked = { readonly age: Uint8Array; readonly found: readonly (Uint8Array | undefined)[] };

/** The value in a copy of this age. */
function copyOf(found: Uint8Array | undefined, age: Uint8Array): Uint8Array | undefined {
  if (found?.[0] !== COPY || Buffer.compare(found.subarray(1, 1 + AGE_BYTES), age) !== 0) return undefined;
  return found.subarray(1 + AGE_BYTES);
}

/** A key without a copy, and the one of an earlier age that stands there. */
type Missing = { readonly key: string; readonly instead: Uint8Array | undefined };

async function askAndCopy(
  kept: KeptValues,
  copies: Copies,
  missing: readonly Missing[],
  age: Uint8Array | undefined,
): Promise<Map<string, Uint8Array>> {
  const lease = tagged(LEASE, Buffer.from(randomUUID()));
  const takeLease = ({ key, instead }: Missing): Promise<boolean> =>
    instead?.[0] === COPY ? copies.compareAndSet(key, instead, lease, LEASE_MS) : copies.add(key, lease, LEASE_MS);
  const leased = (age && (await quietly(() => Promise.all(missing.map(takeLease))))) ?? [];
  const askedMs = performance.now();
  const found = await kept.getTimed(missing.map(({ key }) => key));
  // What was left of a value is less by now, and a copy's time begins now.
  const passedMs = performance.now() - askedMs;
  const asked = new Map<string, Uint8Array>();
  const puts: Promise<unknown>[] = [];
  for (const [n, { key }] of missing.entries()) {
    const held = found[n];
    if (held === undefined) continue;
    asked.set(key, held.value);
    if (age === undefined || leased[n] !== true) continue;
    const ttlMs = Math.min(COPY_MS, (held.leftMs ?? Number.POSITIVE_INFINITY) - passedMs);
    const copy = tagged(COPY, Buffer.concat([age, held.value]));
    if (ttlMs >= 1) puts.push(copies.compareAndSet(key, lease, copy, Math.floor(ttlMs)));
  }
  await quietly(() => Promise.all(puts));
  return asked;
}

/** Ends a write's mark. Where another writes, its mark stays; what was copied meanwhile may be of before this write. */
async function endMark(copies: Copies, key: string, mark: Uint8Array): Promise<void> {
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
