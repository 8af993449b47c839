import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test, vi } from "vitest";
import type { FeedItem, OpenKvEngine } from "#platform/kv/engine.ts";
import { describeEngines } from "#platform/kv/kv-engine.testing.ts";

const bytes = (text: string) => new Uint8Array(Buffer.from(text));
const texts = (values: readonly (Uint8Array | undefined)[]) => values.map((value) => value && Buffer.from(value).toString());
const LONG = 3_600_000;

describeEngines((open) => {
  let engines: OpenKvEngine[];
  let kv: OpenKvEngine;
  let key: string;
  beforeAll(async () => {
    engines = await open(3);
    kv = engines[0] as OpenKvEngine;
  });
  const fresh = () => {
    key = randomUUID();
    return key;
  };
  const read = async (...keys: string[]) => texts(await kv.get(keys));
  /** Everybody at once, over three processes. */
  const atOnce = <T>(count: number, act: (engine: OpenKvEngine, n: number) => Promise<T>): Promise<T[]> =>
    Promise.all(Array.from({ length: count }, (_, n) => act(engines[n % 3] as OpenKvEngine, n)));

  describe("values", () => {
    test("are what they were set to, byte by byte, each under its own key, until they are deleted", async () => {
      const all = Uint8Array.from({ length: 256 }, (_, n) => n);
      await kv.set(fresh(), all, LONG);
      await kv.set(`${key} 2`, bytes(""), undefined);
      const [first, second, none] = await kv.get([key, `${key} 2`, `${key} 3`]);
      expect([Buffer.from(first ?? []), texts([second]), none]).toEqual([Buffer.from(all), [""], undefined]);
      await kv.set(key, bytes("other"), LONG);
      expect(await read(`${key} 3`, key)).toEqual([undefined, "other"]);
      await kv.delete([key, `${key} 3`]);
      expect(await read(key, `${key} 2`)).toEqual([undefined, ""]);
      expect(await kv.get([])).toEqual([]);
    });

    test("are seen by others as soon as they were written", async () => {
      for (let n = 0; n < 50; n++) {
        await engines[n % 3]?.set(fresh(), bytes(`${n}`), LONG);
        expect(texts((await engines[(n + 1) % 3]?.get([key])) ?? [])).toEqual([`${n}`]);
      }
    });

    test("are never read older than they were when the reader began, however many read and write", async () => {
      await kv.set(fresh(), bytes("0"), LONG);
      let written = 0;
      let isOver = false;
      const readers = atOnce(9, async (engine) => {
        while (!isOver) {
          const before = written;
          const [now] = texts(await engine.get([key]));
          expect(Number(now)).toBeGreaterThanOrEqual(before);
        }
      });
      const write = async (n: number) => {
        const engine = engines[n % 3];
        if (n % 2 === 0) await engine?.set(key, bytes(`${n}`), LONG);
        else expect(await engine?.compareAndSet(key, bytes(`${n - 1}`), bytes(`${n}`), LONG)).toBe(true);
        written = n;
      };
      for (let n = 1; n <= 150; n++) await write(n);
      isOver = true;
      await readers;
    });

    test("are gone after their time, and with a new one for as long as that", async () => {
      await kv.set(fresh(), bytes("short"), 30);
      await vi.waitFor(async () => expect(await read(key)).toEqual([undefined]));
      expect(await kv.add(key, bytes("again"), 30)).toBe(true);
      await kv.set(key, bytes("long"), LONG);
      await kv.set(`${key} 2`, bytes("short"), 60);
      await vi.waitFor(async () => expect(await read(`${key} 2`)).toEqual([undefined]));
      expect(await read(key)).toEqual(["long"]);
    });

    test("that are added if absent are added by one of many", async () => {
      fresh();
      const added = await atOnce(200, (engine, n) => engine.add(key, bytes(`${n}`), LONG));
      expect(added.filter(Boolean)).toHaveLength(1);
      expect(await read(key)).toEqual([String(added.indexOf(true))]);
    });

    test("that are compared and set are set by one of many, and only by who knows them", async () => {
      await kv.set(fresh(), bytes("0"), LONG);
      expect(await kv.compareAndSet(key, bytes("1"), bytes("2"), LONG)).toBe(false);
      expect(await kv.compareAndSet(`${key} 2`, bytes(""), bytes("2"), LONG)).toBe(false);
      const won = await atOnce(200, (engine, n) => engine.compareAndSet(key, bytes("0"), bytes(`won by ${n}`), LONG));
      expect(won.filter(Boolean)).toHaveLength(1);
      expect(await read(key)).toEqual([`won by ${won.indexOf(true)}`]);
    });

    test("add up where each of many compares and sets until it wins", async () => {
      await kv.set(fresh(), bytes("0"), LONG);
      await atOnce(30, async (engine) => {
        for (;;) {
          const [now] = await engine.get([key]);
          const next = bytes(String(Number(texts([now])[0]) + 1));
          if (now !== undefined && (await engine.compareAndSet(key, now, next, LONG))) return;
        }
      });
      expect(await read(key)).toEqual(["30"]);
    });

    test("that are compared and deleted are deleted once, and an expired one is nobody's", async () => {
      await kv.set(fresh(), bytes("code"), LONG);
      const won = await atOnce(50, (engine) => engine.compareAndSet(key, bytes("code"), undefined, undefined));
      expect([won.filter(Boolean).length, await read(key)]).toEqual([1, [undefined]]);
      await kv.set(key, bytes("code"), 20);
      await vi.waitFor(async () => expect(await read(key)).toEqual([undefined]));
      expect(await kv.compareAndSet(key, bytes("code"), bytes("late"), LONG)).toBe(false);
      expect(await kv.compareAndSet(key, bytes("code"), undefined, undefined)).toBe(false);
    });

    test("of a kept time lose it by what is set without one", async () => {
      await kv.set(fresh(), bytes("a"), 40);
      expect(await kv.compareAndSet(key, bytes("a"), bytes("b"), undefined)).toBe(true);
      await kv.set(`${key} 2`, bytes("short"), 80);
      await vi.waitFor(async () => expect(await read(`${key} 2`)).toEqual([undefined]));
      expect(await read(key)).toEqual(["b"]);
    });
  });

  describe("a limit", () => {
    test("lets exactly as many through as it says, of 200 who come at once over three processes", async () => {
      fresh();
      const taken = await atOnce(200, (engine) => engine.take(key, 1, 50, LONG));
      expect(taken.filter(({ isTaken }) => isTaken)).toHaveLength(50);
      expect(Math.max(...taken.map(({ used }) => used))).toBe(50);
      expect(await kv.take(key, 1, 51, LONG)).toMatchObject({ isTaken: true, used: 51 });
    });

    test("takes an amount whole or not at all, and is only looked at for none", async () => {
      expect(await kv.take(fresh(), 0, 10, LONG)).toEqual({ isTaken: false, used: 0, resetMs: 0 });
      expect(await kv.take(key, 11, 10, LONG)).toMatchObject({ isTaken: false, used: 0 });
      expect(await kv.take(key, 7, 10, LONG)).toMatchObject({ isTaken: true, used: 7 });
      expect(await kv.take(key, 4, 10, LONG)).toMatchObject({ isTaken: false, used: 7 });
      expect(await kv.take(key, 3, 10, LONG)).toMatchObject({ isTaken: true, used: 10 });
      const { resetMs, ...looked } = await kv.take(key, 0, 10, LONG);
      expect(looked).toEqual({ isTaken: false, used: 10 });
      expect(resetMs).toBeGreaterThan(LONG - 60_000);
      expect(resetMs).toBeLessThanOrEqual(LONG * 1.05 + 1);
    });

    test("lets no more through in any window, however long one goes on, and lets again as soon as it says", async () => {
      const [limit, windowMs] = [10, 400];
      const passed: { readonly afterMs: number; readonly beforeMs: number }[] = [];
      fresh();
      const untilMs = performance.now() + 4 * windowMs;
      while (performance.now() < untilMs) {
        const afterMs = performance.now();
        const { isTaken } = await kv.take(key, 1, limit, windowMs);
        if (isTaken) passed.push({ afterMs, beforeMs: performance.now() });
      }
      expect(passed.length).toBeGreaterThan(2 * limit);
      for (const [n, { beforeMs }] of passed.slice(limit).entries())
        expect(beforeMs - (passed[n]?.afterMs ?? 0)).toBeGreaterThanOrEqual(windowMs);
      const { resetMs } = await kv.take(key, 0, limit, windowMs);
      expect(resetMs).toBeLessThanOrEqual(windowMs * 1.05 + 1);
      await vi.waitFor(async () => expect(await kv.take(key, limit, limit, windowMs)).toMatchObject({ isTaken: true, used: limit }), {
        interval: 10,
      });
    });

    test("is begun anew where it is cleared, and each has its own", async () => {
      await kv.take(fresh(), 3, 3, LONG);
      await kv.take(`${key} 2`, 1, 3, LONG);
      await kv.clear([key]);
      expect(await kv.take(key, 3, 3, LONG)).toMatchObject({ isTaken: true, used: 3 });
      expect(await kv.take(`${key} 2`, 0, 3, LONG)).toMatchObject({ used: 1 });
    });
  });

  describe("a set", () => {
    const members = async (limit = 100) => (await kv.members(key, limit)).sort();

    test("holds each member once, whoever adds it, until it is removed", async () => {
      fresh();
      await atOnce(60, (engine, n) => engine.addMembers(key, [`m${n % 5}`, `m${(n + 1) % 5}`], LONG));
      expect(await members()).toEqual(["m0", "m1", "m2", "m3", "m4"]);
      expect(await kv.members(key, 2)).toHaveLength(2);
      await kv.removeMembers(key, ["m1", "none"]);
      expect([await kv.hasMember(key, "m1"), await kv.hasMember(key, "m2"), await kv.hasMember(`${key} 2`, "m2")]).toEqual([
        false,
        true,
        false,
      ]);
      expect(await members()).toEqual(["m0", "m2", "m3", "m4"]);
    });

    test("takes a member that is named twice in one call once", async () => {
      await kv.addMembers(fresh(), ["a", "b", "a"], LONG);
      await kv.addMembers(key, ["b", "b"], LONG);
      expect(await members()).toEqual(["a", "b"]);
      await kv.removeMembers(key, ["a", "a"]);
      expect(await members()).toEqual(["b"]);
    });

    test("lets each member go after its own time", async () => {
      await kv.addMembers(fresh(), ["for ever"], undefined);
      await kv.addMembers(key, ["long", "renewed"], LONG);
      await kv.addMembers(key, ["short", "renewed"], 40);
      await kv.addMembers(key, ["renewed"], LONG);
      await vi.waitFor(async () => expect(await kv.hasMember(key, "short")).toBe(false));
      expect(await members()).toEqual(["for ever", "long", "renewed"]);
    });
  });

  describe("a feed", () => {
    const names = async (limit = 100, after?: FeedItem) => (await kv.items(key, limit, after)).map(({ member }) => member);

    test("gives its items the highest first, page by page, of which it keeps so many", async () => {
      const items = Array.from({ length: 10 }, (_, n) => ({ member: `m${n}`, score: n * 1.5 }));
      await kv.addItems(fresh(), items.toReversed(), 6, LONG);
      expect(await kv.items(key, 2, undefined)).toEqual([items[9], items[8]]);
      expect(await names(3, items[8])).toEqual(["m7", "m6", "m5"]);
      expect(await names()).toEqual(["m9", "m8", "m7", "m6", "m5", "m4"]);
      await kv.removeItems(key, ["m9", "m7", "none"]);
      await kv.addItems(
        key,
        [
          { member: "m4", score: 100 },
          { member: "new", score: -1 },
        ],
        6,
        LONG,
      );
      expect(await names()).toEqual(["m4", "m8", "m6", "m5", "new"]);
    });

    test("has items of one score in the order of their names, and the last score of an item that is put twice", async () => {
      await kv.addItems(
        fresh(),
        [
          { member: "b", score: 1 },
          { member: "я", score: 1 },
          { member: "a", score: 1 },
          { member: "a", score: 2 },
          { member: "Z", score: 1 },
        ],
        10,
        LONG,
      );
      expect(await names()).toEqual(["a", "я", "b", "Z"]);
    });

    test("loses nothing between two pages, also where scores are the same and the last of a page is gone meanwhile", async () => {
      const items = ["a", "ab", "b", "é", "я", "🙂"].map((member) => ({ member, score: 0.1 }));
      await kv.addItems(fresh(), [...items, { member: "last", score: -5 }, { member: "first", score: 7 }], 10, LONG);
      const pages: string[] = [];
      for (let after: FeedItem | undefined; ; ) {
        const page = await kv.items(key, 2, after);
        after = page.at(-1);
        if (after === undefined) break;
        pages.push(...page.map(({ member }) => member));
        await kv.removeItems(key, [after.member]);
      }
      expect(pages).toEqual(["first", "🙂", "я", "é", "b", "ab", "a", "last"]);
    });

    test("keeps, of items of one score at its end, the last by name", async () => {
      const tied = ["d", "a", "я", "Z", "c", "b"].map((member) => ({ member, score: 1 }));
      await kv.addItems(fresh(), [{ member: "0", score: 2 }, ...tied], 4, LONG);
      expect(await names()).toEqual(["0", "я", "d", "c"]);
      await kv.addItems(key, [{ member: "a", score: 1 }], 4, LONG);
      expect(await names()).toEqual(["0", "я", "d", "c"]);
      await kv.addItems(key, [{ member: "e", score: 1 }], 4, LONG);
      expect(await names()).toEqual(["0", "я", "e", "d"]);
    });

    test("has one zero", async () => {
      await kv.addItems(
        fresh(),
        [
          { member: "b", score: 0 },
          { member: "a", score: -0 },
        ],
        10,
        LONG,
      );
      expect(await kv.items(key, 1, undefined)).toEqual([{ member: "b", score: 0 }]);
      expect(await kv.items(key, 9, { member: "b", score: -0 })).toEqual([{ member: "a", score: 0 }]);
    });

    test("keeps so many also where many add at once", async () => {
      fresh();
      await atOnce(30, (engine, n) => engine.addItems(key, [{ member: `m${n}`, score: n }], 10, LONG));
      expect(await names()).toEqual(Array.from({ length: 10 }, (_, n) => `m${29 - n}`));
    });

    test("is gone after its time, with all that was in it", async () => {
      await kv.addItems(fresh(), [{ member: "old", score: 1 }], 10, 30);
      await vi.waitFor(async () => expect(await names()).toEqual([]));
      await kv.addItems(key, [{ member: "new", score: 0 }], 10, LONG);
      expect(await names()).toEqual(["new"]);
    });

    test("loses its time by what is added without one", async () => {
      await kv.addItems(fresh(), [{ member: "timed", score: 1 }], 10, 40);
      await kv.addItems(key, [{ member: "kept", score: 0 }], 10, undefined);
      await kv.set(`${key} 2`, bytes("short"), 80);
      await vi.waitFor(async () => expect(await read(`${key} 2`)).toEqual([undefined]));
      expect(await names()).toContain("kept");
    });
  });
});
