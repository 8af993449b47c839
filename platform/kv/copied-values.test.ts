import { randomUUID } from "node:crypto";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { type Copies, copiedValues, type KeptValues } from "#platform/kv/copied-values.ts";
import { KvUnavailable, type Values } from "#platform/kv/engine.ts";
import { kvMigrations } from "#platform/kv/kv-engine.testing.ts";
import { postgresEngine } from "#platform/kv/postgres-engine.ts";
import { testDatabase } from "#platform/postgres/database.testing.ts";

const database = await testDatabase({ migrations: [kvMigrations], maxConnections: 8 });
const kept = postgresEngine(database, "kept");
const copies: Values = postgresEngine(database, "passing");
const HOUR = 3_600_000;
const bytes = (text: string) => new Uint8Array(Buffer.from(text));

/** For what stands in the copies, so much time passes. */
const pass = (ms: number) =>
  database.query({ text: "UPDATE passing_values SET expires_at = expires_at - $1::float8 * interval '1 ms'", values: [ms] });

/**
 * A process that can be held where it asks what is kept or changes the copies, before that is done or after, and cut off from the
 * copies, which it has used before.
 */
async function process() {
  let asked = 0;
  let isLost = false;
  let isCutOff = false;
  /** The copies take nothing new. */
  let isFull = false;
  let connection = 1;
  let gate: Gate | undefined;
  const held = async <T>(where: Gate["where"], run: () => Promise<T>): Promise<T> => {
    const held = gate?.where === where ? gate : undefined;
    if (held !== undefined) gate = undefined;
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
  const ask = <T>(run: () => Promise<T>): Promise<T> => {
    asked += 1;
    return held("kept", run);
  };
  const reachable = async <T>(run: () => Promise<T>): Promise<T> => {
    if (isCutOff) throw new KvUnavailable(undefined);
    return run();
  };
  const ownKept: KeptValues = {
    ...kept,
    getTimed: (keys) => ask(() => kept.getTimed(keys)),
    set: (...write) => ask(isLost ? () => Promise.reject(new Error("no answer")) : () => kept.set(...write)),
  };
  const ownCopies: Copies = {
    get connection() {
      return connection;
    },
    get: (keys) => reachable(() => copies.get(keys)),
    set(...write) {
      if (!isFull) return reachable(() => copies.set(...write));
      throw new KvUnavailable(undefined);
    },
    delete: (keys) => reachable(() => held("age", () => copies.delete(keys))),
    add: (...write) => reachable(() => copies.add(...write)),
    compareAndSet: (...write) => reachable(() => held("copies", () => copies.compareAndSet(...write))),
  };
  const values = copiedValues(ownKept, ownCopies);
  await values.get([]);
  return {
    read: async (key: string) => {
      const [value] = await values.get([key]);
      return value && Buffer.from(value).toString();
    },
    write: (key: string, text: string) => values.set(key, bytes(text), HOUR),
    /** How often it has asked what is kept. */
    asked: () => asked,
    /** Nothing comes of its next write, and it isn't told so. */
    loseAnswer() {
      isLost = true;
    },
    cutOff() {
      isCutOff = true;
    },
    fill() {
      isFull = true;
    },
    connect() {
      isCutOff = false;
      connection += 1;
    },
    /** The copies, which refused everything, do so no more, on the same connection. */
    letIn() {
      isCutOff = false;
    },
    /** Holds what it asks next; resolves once it is held, with what lets it go on. */
    hold(when: Gate["when"], where: Gate["where"] = "kept"): Promise<() => void> {
      const { promise: opened, resolve: open } = Promise.withResolvers<void>();
      return new Promise((resolve) => {
        gate = { when, where, reached: () => resolve(open), opened };
      });
    },
  };
}

type Gate = {
  readonly when: "before" | "after";
  /** Where what is kept is asked, where a copy is changed, or where the copies' age is ended. */
  readonly where: "kept" | "copies" | "age";
  readonly reached: () => void;
  readonly opened: Promise<void>;
};

type Process = Awaited<ReturnType<typeof process>>;

/** Three, all of which have ended the age of the copies that they found. */
const processes = async (): Promise<[Process, Process, Process]> => [await process(), await process(), await process()];

async function written(text: string): Promise<string> {
  const key = randomUUID();
  await kept.set(key, bytes(text), HOUR);
  return key;
}

test("what was read once is read again without asking, also after it was written", async () => {
  const [key, [one, other]] = [await written("first"), await processes()];
  expect([await one.read(key), await other.read(key), one.asked(), other.asked()]).toEqual(["first", "first", 1, 0]);
  await one.write(key, "second");
  expect([await other.read(key), await one.read(key), other.asked(), one.asked()]).toEqual(["second", "second", 1, 2]);
});

test("what was read before a write isn't copied after it", async () => {
  const [key, [reader, writer]] = [await written("old"), await processes()];
  const held = reader.hold("after");
  const reading = reader.read(key);
  const goOn = await held;
  await writer.write(key, "new");
  goOn();
  expect(await reading).toBe("old");
  expect(await writer.read(key)).toBe("new");
});

test("a copy of before a write is gone once that is written, though whoever wrote it died with its commit", async () => {
  const [key, [reader, writer]] = [await written("old"), await processes()];
  expect(await reader.read(key)).toBe("old");
  const held = writer.hold("before");
  const writing = writer.write(key, "new");
  const goOn = await held;
  writer.cutOff();
  goOn();
  await writing;
  expect(await reader.read(key)).toBe("new");
});

test("of two who write at once, the one who ends last takes away what was copied between their commits", async () => {
  const [key, [slow, other]] = [await written("old"), await processes()];
  const held = slow.hold("before");
  const writing = slow.write(key, "last");
  const goOn = await held;
  await other.write(key, "between");
  expect(await other.read(key)).toBe("between");
  goOn();
  await writing;
  expect(await other.read(key)).toBe("last");
});

test("of two who write at once, the one who ends last takes away what is copied while it ends", async () => {
  const [key, [slow, other, reader]] = [await written("old"), await processes()];
  const held = slow.hold("before");
  const writing = slow.write(key, "last");
  const commit = await held;
  await other.write(key, "between");
  const asking = reader.hold("after");
  const reading = reader.read(key);
  const copy = await asking;
  const ending = slow.hold("before", "copies");
  commit();
  const end = await ending;
  copy();
  expect(await reading).toBe("between");
  end();
  await writing;
  expect(await reader.read(key)).toBe("last");
});

test("of two who write at once, the one who ends first leaves the other's mark", async () => {
  const [key, [first, second, reader]] = [await written("old"), await processes()];
  const [firstHeld, secondHeld] = [first.hold("before"), second.hold("before")];
  const firstWriting = first.write(key, "first");
  const firstGoesOn = await firstHeld;
  const secondWriting = second.write(key, "second");
  const secondGoesOn = await secondHeld;
  firstGoesOn();
  await firstWriting;
  expect(await reader.read(key)).toBe("first");
  second.cutOff();
  secondGoesOn();
  await secondWriting;
  expect(await reader.read(key)).toBe("second");
});

test("nothing is copied while it isn't known whether a write was carried out", async () => {
  const [key, [reader, writer]] = [await written("old"), await processes()];
  writer.loseAnswer();
  await expect(writer.write(key, "lost")).rejects.toThrow("no answer");
  expect(await reader.read(key)).toBe("old");
  // Only now.
  await kept.set(key, bytes("new"), HOUR);
  expect(await reader.read(key)).toBe("new");
});

test("nothing is copied for as long as the write of one who died may still be carried out, and then it is", async () => {
  const [key, [reader, writer]] = [await written("old"), await processes()];
  const held = writer.hold("before");
  const writing = writer.write(key, "new");
  const goOn = await held;
  // So long a write may wait for a connection, and then for its answer.
  await pass(10_000 + 45_000);
  expect(await reader.read(key)).toBe("old");
  writer.cutOff();
  goOn();
  await writing;
  expect(await reader.read(key)).toBe("new");
  await pass(5_000);
  expect([await reader.read(key), await reader.read(key), reader.asked()]).toEqual(["new", "new", 3]);
});

test("who asks what is kept has some seconds to copy it", async () => {
  const [key, [slow, reader]] = [await written("a"), await processes()];
  const held = slow.hold("after");
  const reading = slow.read(key);
  const goOn = await held;
  await pass(3_000);
  goOn();
  expect([await reading, await reader.read(key), reader.asked()]).toEqual(["a", "a", 0]);
});

test("a copy doesn't outlive its value, however long who copies it takes for that", async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const [slow, reader] = await processes();
  const key = randomUUID();
  await kept.set(key, bytes("a"), 10_000);
  const held = slow.hold("after");
  const reading = slow.read(key);
  const goOn = await held;
  vi.advanceTimersByTime(4_000);
  await pass(4_000);
  goOn();
  expect([await reading, await reader.read(key), reader.asked()]).toEqual(["a", "a", 0]);
  await pass(6_000);
  await reader.read(key);
  expect(reader.asked()).toBe(1);
});

test("what one asked for who then died is soon copied by others", async () => {
  const [key, [dead, reader]] = [await written("a"), await processes()];
  const held = dead.hold("after");
  void dead.read(key);
  await held;
  expect([await reader.read(key), await reader.read(key), reader.asked()]).toEqual(["a", "a", 2]);
  await pass(5_000);
  expect([await reader.read(key), await reader.read(key), reader.asked()]).toEqual(["a", "a", 3]);
});

test("without the copies, what is kept is read and written as ever", async () => {
  const [key, alone] = [await written("old"), await process()];
  alone.cutOff();
  expect(await alone.read(key)).toBe("old");
  await alone.write(key, "new");
  expect(await alone.read(key)).toBe("new");
});

describe("a copy of before a write that was done without the copies isn't read", () => {
  test("by who reaches them again", async () => {
    const [key, [reader, writer]] = [await written("old"), await processes()];
    expect(await reader.read(key)).toBe("old");
    for (const each of [reader, writer]) each.cutOff();
    await writer.write(key, "new");
    reader.connect();
    expect(await reader.read(key)).toBe("new");
  });

  test("by anybody, once who wrote reaches them again, and reads", async () => {
    const [key, [reader, writer]] = [await written("old"), await processes()];
    expect(await reader.read(key)).toBe("old");
    writer.cutOff();
    await writer.write(key, "new");
    expect(await reader.read(key)).toBe("old");
    writer.connect();
    await writer.read(randomUUID());
    expect([await reader.read(key), await writer.read(key), writer.asked()]).toEqual(["new", "new", 2]);
  });

  test("by who begins after it", async () => {
    const [key, [reader, writer]] = [await written("old"), await processes()];
    expect(await reader.read(key)).toBe("old");
    writer.cutOff();
    await writer.write(key, "new");
    expect(await (await process()).read(key)).toBe("new");
  });

  test.each(["before its commit", "after it"])(
    "by who wrote, where the end of the age that was under way before comes %s, and the one that follows it is refused",
    async (comes) => {
      const [key, [reader, writer]] = [await written("old"), await processes()];
      writer.connect();
      const ending = writer.hold("after", "age");
      const beginning = writer.read(randomUUID());
      const goOn = await ending;
      const endAge = async () => {
        goOn();
        await beginning;
      };
      expect(await reader.read(key)).toBe("old");
      writer.fill();
      const committing = writer.hold("before");
      const writing = writer.write(key, "new");
      const commit = await committing;
      writer.cutOff();
      if (comes === "before its commit") await endAge();
      commit();
      await writing;
      await endAge();
      writer.letIn();
      expect(await writer.read(key)).toBe("new");
    },
  );

  test("by anybody, where the copies take no mark, for they are full", async () => {
    const [key, [reader, writer]] = [await written("old"), await processes()];
    expect(await reader.read(key)).toBe("old");
    writer.fill();
    await writer.write(key, "new");
    expect(await reader.read(key)).toBe("new");
  });
});
