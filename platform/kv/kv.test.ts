import { dirname } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test, vi } from "vitest";
import { fileOf } from "#contracts/file-of.testing.ts";
import { CardsService } from "#contracts/polis/cardtest/v1/cardtest_pb.ts";
import { ThingSchema } from "#contracts/polis/resttest/v1/resttest_pb.ts";
import type { OpenKvEngine } from "#platform/kv/engine.ts";
import { feed, type Kind, limit, memberSet, values } from "#platform/kv/kinds.ts";
import { createKv, type Kv, kvOf } from "#platform/kv/kv.ts";
import { kvMigrations } from "#platform/kv/kv-engine.testing.ts";
import { forgetExpired, postgresEngine } from "#platform/kv/postgres-engine.ts";
import { isRedisThere, openTestRedis, redisBehindLine } from "#platform/kv/redis.testing.ts";
import { redisEngine } from "#platform/kv/redis-engine.ts";
import { testDatabase, testLog } from "#platform/postgres/database.testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const HOUR = 3_600_000;
const sessions = values("test.session", ThingSchema, { loss: "durable", ttlMs: HOUR });
const cards = values("test.card", ThingSchema, { loss: "cache", ttlMs: HOUR });
const openLimit = limit("test.calls", { limit: 2, windowMs: HOUR, whenAway: "open" });
const closedLimit = limit("test.codes", { limit: 2, windowMs: HOUR, whenAway: "closed" });
const devices = memberSet("test.devices", { loss: "cache", ttlMs: HOUR });
const ownDevices = memberSet("test.own-devices", { loss: "durable" });
const base = feed("test.base", { loss: "cache", ttlMs: HOUR, keep: 3 });

/** The beginning of a file of contracts. */
const fileIn = (path: string) => `syntax = "proto3"; package ${dirname(path).replaceAll("/", ".")};`;
const contract = fileOf("polis/test/v1/test.proto", `${fileIn("polis/test/v1/test.proto")} service TestService {}`).services[0]!;

const database = await testDatabase({ migrations: [kvMigrations] });
const kept = postgresEngine(database, "kept");
const thing = (id: string) => create(ThingSchema, { id, amount: 7n });

function storeOn(redis: OpenKvEngine | undefined, metrics = new Metrics()): Kv {
  return createKv({ kept, passing: redis ?? postgresEngine(database, "passing"), copies: redis, metrics });
}

describe("a kind of data", () => {
  const kv = storeOn(undefined);

  test("has messages as its values, each with the kind's time to live unless it has one of its own", async () => {
    const handle = kv.of(sessions);
    await handle.set("a", thing("1"));
    expect(await handle.get("a")).toEqual(thing("1"));
    expect(await handle.add("a", thing("2"))).toBe(false);
    expect(await handle.compareAndSet("a", thing("2"), thing("3"))).toBe(false);
    expect(await handle.compareAndSet("a", thing("1"), { id: "3" }, 20)).toBe(true);
    await vi.waitFor(async () => expect(await handle.get("a")).toBeUndefined());
    await handle.set("b", thing("b"));
    expect(await handle.getAll(["a", "b", "b"])).toEqual([undefined, thing("b"), thing("b")]);
    expect(await handle.compareAndSet("b", thing("b"), undefined)).toBe(true);
    expect(await handle.get("b")).toBeUndefined();
  });

  test("knows a value that it gave, in whatever bytes another release has written it, and no copy of it that was changed", async () => {
    const handle = kv.of(sessions);
    // The same message, its fields in another order.
    const [id, amount] = [
      toBinary(ThingSchema, create(ThingSchema, { id: "1" })),
      toBinary(ThingSchema, create(ThingSchema, { amount: 7n })),
    ];
    await kept.set(`${sessions.name}:odd`, Buffer.concat([amount, id]), undefined);
    const read = await handle.get("odd");
    expect(read).toEqual(thing("1"));
    expect(await handle.compareAndSet("odd", { ...read!, amount: 8n }, thing("2"))).toBe(false);
    expect(await handle.compareAndSet("odd", read!, thing("2"))).toBe(true);
  });

  test("keeps its keys apart from those of others, and is one handle for all who ask", async () => {
    await kv.of(cards).set("same", thing("card"));
    expect(await kv.of(sessions).get("same")).toBeUndefined();
    expect(kv.of(cards)).toBe(kv.of(cards));
    expect(() => kv.of(values("test.card", ThingSchema, { loss: "cache", ttlMs: 1 }))).toThrow(
      "test.card is the name of two kinds of keys",
    );
  });

  test("limits, sets and feeds by what it says", async () => {
    expect(await kv.of(openLimit).look("a")).toEqual({ used: 0, resetMs: 0 });
    expect(await kv.of(openLimit).take("a")).toMatchObject({ isTaken: true, used: 1, isAway: false });
    expect(await kv.of(openLimit).take("a", 2)).toMatchObject({ isTaken: false, used: 1, isAway: false });
    expect(await kv.of(openLimit).look("a")).toEqual({ used: 1, resetMs: expect.closeTo(HOUR, -6) });
    await kv.of(openLimit).clear("a");
    expect(await kv.of(openLimit).take("a", 2)).toMatchObject({ isTaken: true });

    await kv.of(ownDevices).add("user", "phone", "tablet");
    await kv.of(ownDevices).remove("user", "phone");
    expect([await kv.of(ownDevices).has("user", "phone"), await kv.of(ownDevices).members("user")]).toEqual([false, ["tablet"]]);

    await kv.of(base).add("all", ...[1, 2, 3, 4].map((score) => ({ member: `p${score}`, score })));
    await kv.of(base).remove("all", "p3");
    expect(await kv.of(base).items("all", 10)).toEqual([
      { member: "p4", score: 4 },
      { member: "p2", score: 2 },
    ]);
    expect(await kv.of(base).items("all", 10, { member: "p4", score: 4 })).toHaveLength(1);
  });

  test("has counts of its own for each window, so that a limit may be changed", async () => {
    const [before, after] = [1_000, 2_000].map((windowMs) => limit("test.changed", { limit: 1, windowMs, whenAway: "closed" }));
    expect(await storeOn(undefined).of(before!).take("a")).toMatchObject({ isTaken: true });
    expect(await storeOn(undefined).of(before!).take("a")).toMatchObject({ isTaken: false });
    expect(await storeOn(undefined).of(after!).take("a")).toMatchObject({ isTaken: true });
  });

  test.each<[string, () => unknown, string]>([
    ["is named by its service", () => memberSet("Test", { loss: "durable" }), '"Test": a kind of keys is named <service>.'],
    [
      "has a name of at most 100 characters",
      () => memberSet(`test.${"x".repeat(96)}`, { loss: "durable" }),
      `test.${"x".repeat(96)}: the name of a kind of keys has 101 characters; at most 100`,
    ],
    [
      "has a time to live where it can be had again",
      () => values("test.none", ThingSchema, { loss: "cache" }),
      "test.none: `ttlMs` is missing; what can be had again must have one",
    ],
    [
      "has a time to live of something",
      () => values("test.none", ThingSchema, { loss: "cache", ttlMs: 0 }),
      "test.none: `ttlMs` is 0; it must be whole milliseconds from 1 on",
    ],
    [
      "has a time to live of whole milliseconds",
      () => memberSet("test.none", { loss: "durable", ttlMs: 0.5 }),
      "test.none: `ttlMs` is 0.5; it must be whole milliseconds from 1 on",
    ],
    [
      "says what its loss means",
      () => feed("test.none", { loss: "lost" as "cache", ttlMs: 1, keep: 1 }),
      'test.none: `loss` is "lost"; it must be durable or cache',
    ],
    [
      "limits something",
      () => limit("test.none", { limit: 0, windowMs: 1_000, whenAway: "open" }),
      "test.none: `limit` is 0; it must be a whole number from 1 to 1000000000",
    ],
    [
      "has a window",
      () => limit("test.none", { limit: 1, windowMs: 0, whenAway: "open" }),
      "test.none: `windowMs` is 0; it must be whole milliseconds from 100 to 31622400000",
    ],
    [
      "says who is let through where the store is away",
      () => limit("test.none", { limit: 1, windowMs: 1_000, whenAway: undefined as never }),
      "test.none: `whenAway` is undefined; it must be open or closed",
    ],
    [
      "keeps something",
      () => feed("test.none", { loss: "cache", ttlMs: 1, keep: 0 }),
      "test.none: `keep` is 0; it must be a whole number from 1 to 1000",
    ],
  ])("%s", (_, make, fault) => expect(make).toThrow(fault));

  test.each<[string, () => unknown, string]>([
    ["an empty key", () => kv.of(cards).get(""), "test.card: a key has 0 bytes; it must have 1 to 512"],
    [
      "a key that is too long",
      () => kv.of(cards).set("k".repeat(513), thing("1")),
      "test.card: a key has 513 bytes; it must have 1 to 512",
    ],
    ["a key with a NUL", () => kv.of(openLimit).take("a\0"), "test.calls: a key must be text without a NUL"],
    ["half a character", () => kv.of(devices).add("a", "\ud800"), "test.devices: a member must be text without a NUL"],
    ["an empty member", () => kv.of(devices).add("a", "b", ""), "test.devices: a member has 0 bytes; it must have 1 to 512"],
    [
      "a member that is too long",
      () => kv.of(devices).has("a", "m".repeat(513)),
      "test.devices: a member has 513 bytes; it must have 1 to 512",
    ],
    ["a value that is too large", () => kv.of(cards).set("a", thing("x".repeat(300_000))), "bytes; a value has at most 262144"],
    [
      "a time that is none",
      () => kv.of(cards).set("a", thing("1"), Number.NaN),
      "test.card: `ttlMs` is NaN; it must be whole milliseconds from 1 on",
    ],
    ["less than nothing", () => kv.of(openLimit).take("a", -1), "test.calls: `amount` is -1; it must be a whole number from 1 on"],
    [
      "a score that is no number",
      () => kv.of(base).add("a", { member: "m", score: Number.NaN }),
      "test.base: `score` is NaN; it must be a finite number",
    ],
    ["no member", () => kv.of(devices).members("a", 0), "test.devices: `limit` is 0; it must be a whole number from 1 to 1000"],
    ["less than no item", () => kv.of(base).items("a", -1), "test.base: `limit` is -1; it must be a whole number from 1 to 1000"],
    [
      "a page after no score",
      () => kv.of(base).items("a", 1, { member: "m", score: Number.NaN }),
      "test.base: `score` is NaN; it must be a finite number",
    ],
    [
      "thousands at once",
      () => kv.of(cards).getAll(Array.from({ length: 1_001 }, String)),
      "test.card: 1001 keys at once; 1000 at the most",
    ],
  ])("%s is refused, by the kind's name and the rule", async (_, act, fault) => {
    await expect(async () => await act()).rejects.toThrow(fault);
  });

  test("counts no operation that was refused, whichever it is", async () => {
    const metrics = new Metrics();
    const { of } = storeOn(undefined, metrics);
    const bad = "k".repeat(513);
    const refused = [
      () => of(cards).get(bad),
      () => of(cards).getAll([bad]),
      () => of(cards).set(bad, thing("1")),
      () => of(cards).delete(bad),
      () => of(cards).add(bad, thing("1")),
      () => of(cards).compareAndSet(bad, thing("1"), thing("2")),
      () => of(openLimit).take(bad),
      () => of(openLimit).look(bad),
      () => of(openLimit).clear(bad),
      () => of(devices).add(bad, "a"),
      () => of(devices).remove(bad, "a"),
      () => of(devices).has(bad, "a"),
      () => of(devices).members(bad),
      () => of(base).add(bad, { member: "a", score: 1 }),
      () => of(base).remove(bad, "a"),
      () => of(base).items(bad, 1),
    ];
    for (const ask of refused) await expect(ask()).rejects.toThrow("a key has 513 bytes");
    const counted = async () =>
      [...(await metrics.text()).matchAll(/^polis_kv_duration_seconds_count\{.*operation="(.+?)"/gm)].map(([, name]) => name);
    expect(await counted()).toEqual([]);
    await of(cards).get("a");
    expect(await counted()).toEqual(["get"]);
  });

  test("that a service's manifest doesn't name isn't that service's", async () => {
    const own = kvOf(contract, [devices], kv);
    await kv.of(devices).add("same", "phone");
    expect(await own.of(devices).has("same", "phone")).toBe(true);
    expect(() => own.of(sessions)).toThrow("test uses test.session, which its manifest doesn't name");
    expect(() => kvOf(CardsService, [devices], kv)).toThrow("cardtest keeps test.devices");
  });

  test("has its messages in the file of its service in which nothing may go or change: else the service doesn't start", async () => {
    const draftsIn = (file: string) =>
      values("test.draft", fileOf(file, `${fileIn(file)} message Draft { string id = 1; }`).messages[0]!, { loss: "durable" });
    const drafts = draftsIn("polis/test/v1/kept.proto");
    expect(await kvOf(contract, [drafts], kv).of(drafts).get("a")).toBeUndefined();
    for (const [file, type] of [
      ["polis/test/v1/test.proto", "polis.test.v1.Draft"],
      ["polis/other/v1/kept.proto", "polis.other.v1.Draft"],
    ] as const)
      expect(() => kvOf(contract, [draftsIn(file)], storeOn(undefined))).toThrow(
        `test keeps test.draft: ${type} is in ${file}; what is kept must be in polis/test/v1/kept.proto`,
      );
  });

  test("has a name of its own, which the service's cache hasn't either: else the service doesn't start", () => {
    const same = memberSet("test.devices", { loss: "durable" });
    expect(() => kvOf(contract, [devices, base, same], kv)).toThrow("test keeps test.devices twice");
    for (const name of ["test.answers", "test.answer-groups"])
      expect(() => kvOf(contract, [memberSet(name, { loss: "durable" })], kv)).toThrow(`test keeps ${name}: so the platform names`);
  });

  test("has its losses counted from the start on, so that the first one is seen to be more", async () => {
    const metrics = new Metrics();
    kvOf(contract, [devices, openLimit], storeOn(undefined, metrics));
    const counted = [...(await metrics.text()).matchAll(/^polis_kv_lost_total\{kind="(.+)"\} (\d+)$/gm)].map(([, kind, count]) => [
      kind,
      count,
    ]);
    expect(counted).toEqual([
      ["test.devices", "0"],
      ["test.calls", "0"],
    ]);
  });

  test("leaves nothing behind of what has expired", async () => {
    await kv.of(cards).set("short", thing("1"), 1);
    await kept.set("short", new Uint8Array(1), 1);
    await kept.addMembers("short", ["a"], 1);
    await kept.addItems("short", [{ member: "a", score: 1 }], 5, 1);
    const count = async () =>
      (
        await database.query({
          text: `SELECT (SELECT count(*) FROM passing_values WHERE key LIKE '%short') + (SELECT count(*) FROM kept_values WHERE key = 'short')
                   + (SELECT count(*) FROM kept_members WHERE key = 'short') + (SELECT count(*) FROM kept_items WHERE key = 'short') AS n`,
        })
      ).rows[0]?.n;
    expect(await count()).toBe(4n);
    await vi.waitFor(async () => {
      await forgetExpired(database);
      expect(await count()).toBe(0n);
    });
    expect(await kv.of(cards).get("same")).toEqual(thing("card"));
  });

  test("forgets what has expired in pieces, also where it is all in few feeds", async () => {
    const items = Array.from({ length: 800 }, (_, n) => ({ member: `m${n}`, score: n }));
    for (const key of ["feed 1", "feed 2"]) await kept.addItems(key, items, 1_000, 60_000);
    await database.query({ text: "UPDATE kept_feeds SET expires_at = now() - interval '1 s' WHERE key LIKE 'feed %'" });
    const forgotten: number[] = [];
    do forgotten.push(await forgetExpired(database));
    while (forgotten.at(-1) !== 0);
    // A feed goes with the last of its items, or in the round after.
    expect([forgotten.slice(0, 2), forgotten.reduce((sum, n) => sum + n)]).toEqual([[1_001, 601], 1_602]);
  });
});

describe.skipIf(!isRedisThere)("while Redis is away", () => {
  const lost = async (metrics: Metrics, kind: Kind<unknown>) =>
    (await metrics.text()).match(new RegExp(`^polis_kv_lost_total\\{kind="${kind.name}"\\} (\\d+)$`, "m"))?.[1];

  test.each(["cut", "mute"] as const)(
    "(%s) each kind does without as it says, at once; and all is well when it is back",
    async (broken) => {
      const { connection, line } = await redisBehindLine();
      const redis = await openTestRedis(connection);
      const metrics = new Metrics();
      const kv = storeOn(redis, metrics);
      await kv.of(cards).set("a", thing("card"));
      await kv.of(sessions).set("a", thing("session"));
      expect(await kv.of(sessions).get("a")).toEqual(thing("session"));
      line(broken);

      expect(await kv.of(cards).get("a")).toBeUndefined();
      expect(await kv.of(cards).getAll(["a", "b"])).toEqual([undefined, undefined]);
      await kv.of(cards).set("b", thing("card"));
      expect(await kv.of(cards).add("c", thing("card"))).toBe(false);
      expect(await kv.of(openLimit).take("a")).toEqual({ isTaken: true, used: 0, resetMs: 0, isAway: true });
      expect(await kv.of(closedLimit).take("a")).toEqual({ isTaken: false, used: 0, resetMs: HOUR, isAway: true });
      expect([await kv.of(openLimit).look("a"), await kv.of(closedLimit).look("a")]).toEqual([
        { used: 0, resetMs: 0 },
        { used: 0, resetMs: HOUR },
      ]);
      await kv.of(devices).add("a", "phone");
      expect([await kv.of(devices).has("a", "phone"), await kv.of(devices).members("a"), await kv.of(base).items("a", 1)]).toEqual([
        false,
        [],
        [],
      ]);
      // What may not be lost is read and written as ever.
      expect(await kv.of(sessions).get("a")).toEqual(thing("session"));
      expect(await kv.of(sessions).compareAndSet("a", thing("session"), thing("changed"))).toBe(true);
      expect(await kv.of(sessions).get("a")).toEqual(thing("changed"));
      expect(redis.isReached).toBe(false);
      await expect(redis.ask()).rejects.toThrow("the key-value store isn't reached");
      expect([await lost(metrics, cards), await lost(metrics, openLimit), await lost(metrics, sessions)]).toEqual(["4", "2", "0"]);

      line("open");
      await vi.waitFor(() => redis.ask(), { timeout: 10_000 });
      expect(await kv.of(cards).get("a")).toEqual(thing("card"));
      await kv.of(closedLimit).clear("a");
      expect(await kv.of(closedLimit).take("a")).toMatchObject({ isTaken: true });
    },
  );

  test.each(["cut", "mute", "open"] as const)("(%s) a start goes on, and a close ends, with what is under way", async (broken) => {
    const { connection, line, sockets } = await redisBehindLine();
    const closed = redisEngine({ connection, log: testLog });
    await closed.close();
    const redis = await openTestRedis(connection);
    line(broken);
    const asked = storeOn(redis).of(cards).get("a");
    await redis.close();
    expect(await asked).toBeUndefined();
    await vi.waitFor(() => expect(sockets()).toBe(0));
    expect(closed.isReached).toBe(false);
  });

  test("what isn't to be lost fails with PostgreSQL alone, and says that one may try again", async () => {
    const own = await testDatabase({ migrations: [kvMigrations] });
    const kv = createKv({
      kept: postgresEngine(own, "kept"),
      passing: postgresEngine(own, "passing"),
      copies: undefined,
      metrics: new Metrics(),
    });
    await own.query({ text: "ALTER TABLE kept_values RENAME TO elsewhere" });
    await expect(kv.of(sessions).get("a")).rejects.toThrow('relation "kept_values" does not exist');
  });
});
