import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { copiedValues, type KeptValues } from "#platform/kv/copied-values.ts";
import { KvUnavailable, type Values } from "#platform/kv/engine.ts";
import { kvMigrations } from "#platform/kv/kv-engine.testing.ts";
import { postgresEngine } from "#platform/kv/postgres-engine.ts";
import { testDatabase } from "#platform/postgres/database.testing.ts";

const database = await testDatabase({ migrations: [kvMigrations], maxConnections: 8 });
const kept = postgresEngine(database, "kept");
const copies: Values = postgresEngine(database, "passing");
const HOUR = 3_600_000;
const bytes = (text: string) => new Uint8Array(Buffer.from(text));

/** A process that can be held where it asks what is kept, before that is done or after, and cut off from the copies. */
function process() {
  let asked = 0;
  let isCutOff = false;
  let gate: { readonly when: "before" | "after"; readonly reached: () => void; readonly opened: Promise<void> } | undefined;
  const through = async <T>(run: () => Promise<T>): Promise<T> => {
    asked += 1;
    const held = gate;
    gate = undefined;
    if (held?.when === "after") {
      const answer = await run();
      held.reached();
      await held.opened;
      return answer;
    }
    held?.reached();
    await held?.opened;
    return run();
  };
  const reachable = async <T>(run: () => Promise<T>): Promise<T> => {
    if (isCutOff) throw new KvUnavailable(undefined);
    return run();
  };
  const ownKept: KeptValues = {
    ...kept,
    getTimed: (keys) => through(() => kept.getTimed(keys)),
    set: (...write) => through(() => kept.set(...write)),
  };
  const ownCopies: Values = {
    get: (keys) => reachable(() => copies.get(keys)),
    set: (...write) => reachable(() => copies.set(...write)),
    delete: (keys) => reachable(() => copies.delete(keys)),
    add: (...write) => reachable(() => copies.add(...write)),
    compareAndSet: (...write) => reachable(() => copies.compareAndSet(...write)),
  };
  const values = copiedValues(ownKept, ownCopies);
  return {
    read: async (key: string) => {
      const [value] = await values.get([key]);
      return value && Buffer.from(value).toString();
    },
    write: (key: string, text: string) => values.set(key, bytes(text), HOUR),
    /** How often it has asked what is kept. */
    asked: () => asked,
    cutOff() {
      isCutOff = true;
    },
    /** Holds what it asks next; resolves once it is held, with what lets it go on. */
    hold(when: "before" | "after"): Promise<() => void> {
      const { promise: opened, resolve: open } = Promise.withResolvers<void>();
      return new Promise((resolve) => {
        gate = { when, reached: () => resolve(open), opened };
      });
    },
  };
}

async function written(text: string): Promise<string> {
  const key = randomUUID();
  await process().write(key, text);
  return key;
}

test("what was read once is read again without asking, also after it was written", async () => {
  const key = await written("first");
  const [one, other] = [process(), process()];
  expect([await one.read(key), await other.read(key), one.asked(), other.asked()]).toEqual(["first", "first", 1, 0]);
  await one.write(key, "second");
  expect([await other.read(key), await one.read(key), other.asked(), one.asked()]).toEqual(["second", "second", 1, 2]);
});

test("what was read before a write isn't copied after it", async () => {
  const key = await written("old");
  const reader = process();
  const held = reader.hold("after");
  const reading = reader.read(key);
  const goOn = await held;
  await process().write(key, "new");
  goOn();
  expect(await reading).toBe("old");
  expect(await process().read(key)).toBe("new");
});

test("a copy of before a write is gone once that is written, though whoever wrote it died with its commit", async () => {
  const key = await written("old");
  expect(await process().read(key)).toBe("old");
  const writer = process();
  const held = writer.hold("before");
  const writing = writer.write(key, "new");
  const goOn = await held;
  writer.cutOff();
  goOn();
  await writing;
  expect(await process().read(key)).toBe("new");
});

test("of two who write at once, the one who ends last takes away what was copied between their commits", async () => {
  const key = await written("old");
  const slow = process();
  const held = slow.hold("before");
  const writing = slow.write(key, "last");
  const goOn = await held;
  await process().write(key, "between");
  expect(await process().read(key)).toBe("between");
  goOn();
  await writing;
  expect(await process().read(key)).toBe("last");
});

test("of two who write at once, the one who ends first leaves the other's mark", async () => {
  const key = await written("old");
  const [first, second] = [process(), process()];
  const [firstHeld, secondHeld] = [first.hold("before"), second.hold("before")];
  const firstWriting = first.write(key, "first");
  const firstGoesOn = await firstHeld;
  const secondWriting = second.write(key, "second");
  const secondGoesOn = await secondHeld;
  firstGoesOn();
  await firstWriting;
  expect(await process().read(key)).toBe("first");
  second.cutOff();
  secondGoesOn();
  await secondWriting;
  expect(await process().read(key)).toBe("second");
});

test("without the copies, what is kept is read and written as ever", async () => {
  const key = await written("old");
  const alone = process();
  alone.cutOff();
  expect(await alone.read(key)).toBe("old");
  await alone.write(key, "new");
  expect(await alone.read(key)).toBe("new");
});
