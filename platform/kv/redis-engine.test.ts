import { randomUUID } from "node:crypto";
import { createClient } from "@redis/client";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { type OpenKvEngine, WINDOW_PARTS } from "#platform/kv/engine.ts";
import { isRedisThere, openTestRedis, testRedis } from "#platform/kv/redis.testing.ts";
import { redisEngine } from "#platform/kv/redis-engine.ts";
import { testLog } from "#platform/postgres/database.testing.ts";

const HOUR = 3_600_000;
/** A window in whose parts a test ends as surely as it began. */
const MONTH = 30 * 24 * HOUR;

/** What nobody learns from the engine: what Redis holds, and for how long. */
describe.skipIf(!isRedisThere)("in Redis", () => {
  let engine: OpenKvEngine;
  let redis: ReturnType<typeof createClient>;
  let prefix: string;
  beforeAll(async () => {
    const connection = testRedis();
    ({ prefix } = connection);
    engine = await openTestRedis(connection);
    redis = createClient({ url: process.env.REDIS_URL ?? "" });
    await redis.connect();
  });
  afterAll(() => redis.close());

  describe("the counts of a limit", () => {
    test("are there as long as one of them counts, and then no longer", async () => {
      const key = randomUUID();
      for (const used of [1, 2]) {
        await engine.take(key, 1, 10, HOUR);
        const leftMs = await redis.pTTL(prefix + key);
        const { resetMs } = await engine.take(key, 0, 10, HOUR);
        // Redis looks at its clock more than once, and a test has a moment.
        expect(leftMs, `after ${used}`).toBeGreaterThan(resetMs - 100);
        expect(leftMs, `after ${used}`).toBeLessThanOrEqual(HOUR + HOUR / WINDOW_PARTS);
        await redis.pExpire(prefix + key, 10_000);
      }
    });

    test("don't count where they lie further ahead than a window, as a clock that was set back leaves them", async () => {
      const key = randomUUID();
      await engine.take(key, 10, 10, MONTH);
      const [part] = await redis.hKeys(prefix + key);
      const lieAhead = async (parts: number) => {
        await redis.del(prefix + key);
        await redis.hSet(prefix + key, String(Number(part) + parts), "10");
      };
      await lieAhead(WINDOW_PARTS);
      expect(await engine.take(key, 1, 10, MONTH)).toMatchObject({ isTaken: false, used: 10 });
      await lieAhead(WINDOW_PARTS + 1);
      expect(await engine.take(key, 10, 10, MONTH)).toMatchObject({ isTaken: true, used: 10 });
      expect(await redis.hGetAll(prefix + key)).toEqual({ [part as string]: "10" });
    });
  });

  test("a set to which members are added holds none that have expired", async () => {
    const key = randomUUID();
    await engine.addMembers(key, ["long"], HOUR);
    await engine.addMembers(key, ["short", "renewed"], 20);
    await vi.waitFor(async () => expect(await engine.hasMember(key, "renewed")).toBe(false));
    await engine.addMembers(key, ["renewed"], HOUR);
    expect(await redis.zRange(prefix + key, 0, -1)).toEqual(["long", "renewed"]);
  });

  test("what is kept is in the database of its number, and in no other", async () => {
    const connection = testRedis();
    const second = await openTestRedis({ ...connection, url: { ...connection.url, database: 1 } });
    await second.set("value", new Uint8Array([1]), HOUR);
    expect([await second.get(["value"]), await redis.exists(`${connection.prefix}value`)]).toEqual([[Buffer.from([1])], 0]);
    await second.delete(["value"]);
  });

  test.each([
    [0, []],
    [1, ["+select"]],
  ])("nothing needs other rights than docs/operating.md names, in database %i", async (database, more) => {
    const [user, connection] = [`test-${randomUUID()}`, testRedis()];
    const rights = ["-@all", "+@read", "+@write", "+@scripting", "+time", "+ping", ...more];
    await redis.sendCommand(["ACL", "SETUSER", user, "on", ">word", `~${connection.prefix}*`, ...rights]);
    onTestFinished(async () => void (await redis.sendCommand(["ACL", "DELUSER", user])));
    const url = { ...connection.url, database, user: { name: user, password: "word" } };
    const limited = redisEngine({ connection: { ...connection, url }, log: testLog });
    onTestFinished(() => limited.close());
    await vi.waitFor(() => limited.ask(), 10_000);

    const value = new Uint8Array([1]);
    await limited.set("value", value, HOUR);
    expect(await limited.add("value", value, HOUR)).toBe(false);
    expect(await limited.compareAndSet("value", value, value, HOUR)).toBe(true);
    expect(await limited.get(["value", "none"])).toEqual([Buffer.from(value), undefined]);
    await limited.delete(["value"]);
    expect(await limited.get(["value"])).toEqual([undefined]);
    expect(await limited.take("limit", 1, 1, HOUR)).toMatchObject({ isTaken: true });
    await limited.clear(["limit"]);
    await limited.addMembers("set", ["a", "b"], HOUR);
    await limited.removeMembers("set", ["b"]);
    expect([await limited.hasMember("set", "a"), await limited.members("set", 5)]).toEqual([true, ["a"]]);
    await limited.addItems("feed", [{ member: "a", score: 1 }], 5, HOUR);
    await limited.removeItems("feed", ["b"]);
    expect(await limited.items("feed", 5, undefined)).toEqual([{ member: "a", score: 1 }]);
  });
});
