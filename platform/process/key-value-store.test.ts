import { randomUUID } from "node:crypto";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { ThingSchema } from "#contracts/polis/resttest/v1/resttest_pb.ts";
import { authority, certificateFolder } from "#platform/config/certificates.testing.ts";
import { platformSettings } from "#platform/config/platform-settings.ts";
import { readSettings } from "#platform/config/settings.ts";
import { values } from "#platform/kv/kinds.ts";
import { kvMigrations as folder } from "#platform/kv/kv-engine.testing.ts";
import { isRedisThere, redisBehindLine } from "#platform/kv/redis.testing.ts";
import type { RedisConnection } from "#platform/kv/redis-connection.ts";
import { openLine } from "#platform/line.testing.ts";
import { testDatabaseConnection, testLog } from "#platform/postgres/database.testing.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import type { Databases } from "#platform/process/databases.ts";
import { at127, namesAsked } from "#platform/process/engine-tls.testing.ts";
import { openKeyValueStore } from "#platform/process/key-value-store.ts";
import { readinessOf } from "#platform/process/readiness.ts";
import { cardsService } from "#platform/reads/cards/cards.testing.ts";
import type { ServiceDefinition } from "#platform/service.ts";
import { loggedLines } from "#platform/telemetry/logged-lines.testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const { TEST_SECURE_REDIS_URL = "", TEST_REDIS_CA_FILE = "", TEST_REDIS_CERT_FILE = "", TEST_REDIS_KEY_FILE = "" } = process.env;
const connection = await testDatabaseConnection([folder]);
const opened: string[] = [];
const databases = {
  open(name: string) {
    opened.push(name);
    return openDatabase({ connection, name, log: testLog, metrics: new Metrics() });
  },
} as Partial<Databases> as Databases;
const cards = values("test.card", ThingSchema, { loss: "cache", ttlMs: 3_600_000 });
const service = (more: Partial<ServiceDefinition>) =>
  ({ keeps: [], operations: {}, ...more }) as Partial<ServiceDefinition> as ServiceDefinition;

type Environment = Readonly<Record<string, string>>;

async function open(
  services: readonly ServiceDefinition[],
  environment: Environment = {},
  metrics = new Metrics(),
  log = testLog,
  from = databases,
) {
  const settings = readSettings(environment, platformSettings([]));
  const store = await openKeyValueStore({ settings, databases: from, services, log, metrics });
  if (store !== undefined) onTestFinished(() => store.close());
  return store;
}

/** What the process says of Redis. */
const saidAway = async (metrics: Metrics) => (await metrics.text()).match(/^polis_redis_away (\d)$/m)?.[1];

/** As its setting has it. */
const written = ({ url: { host, port, user } }: RedisConnection): string => `redis://:${user?.password ?? ""}@${host}:${port}`;

test("a process has a store where a service of its keeps something in it, or has answers cached, and else no database of it", async () => {
  expect([await open([service({})]), opened]).toEqual([undefined, []]);
  expect(await open([service({}), service({ keeps: [cards] })])).toBeDefined();
  expect(await open([cardsService(async () => {})])).toBeDefined();
  expect(opened).toEqual(["kv", "kv"]);
});

test("certificates for a Redis that isn't encrypted are a mistake, which is named", async () => {
  const environment = { REDIS_URL: "redis://h", REDIS_CA_FILE: import.meta.filename };
  await expect(open([service({ keeps: [cards] })], environment)).rejects.toThrow("REDIS_URL doesn't begin with rediss://");
});

test("a Redis that is away is told of, and leaves the process ready", { skip: !isRedisThere }, async () => {
  const { connection: redis, line } = await redisBehindLine();
  const { log, logged } = loggedLines();
  const metrics = new Metrics();
  const store = await open(
    [service({ keeps: [cards] })],
    { REDIS_URL: written(redis), REDIS_PREFIX: redis.prefix.replaceAll(":", ".") },
    metrics,
    log,
  );
  const ready = readinessOf(store?.parts ?? []);
  await vi.waitFor(
    async () => expect([await ready(), await saidAway(metrics)]).toEqual([{ ready: true, checks: { kv: "ok", redis: "ok" } }, "0"]),
    10_000,
  );
  const handle = store?.store.of(cards);
  await handle?.set("a", { id: "1" });
  expect(await handle?.get("a")).toMatchObject({ id: "1" });
  line("cut");
  await vi.waitFor(
    async () =>
      expect([await ready(), await saidAway(metrics)]).toEqual([{ ready: true, checks: { kv: "ok", redis: "unreachable" } }, "1"]),
    10_000,
  );
  expect(await handle?.get("a")).toBeUndefined();
  // Where one was reached, the loss isn't the settings' fault.
  expect(logged[0]?.err?.message).not.toContain("REDIS_");
});

describe.skipIf(TEST_SECURE_REDIS_URL === "")("a Redis that encrypts, and wants a certificate", () => {
  const url = TEST_SECURE_REDIS_URL;
  const pair = { REDIS_CERT_FILE: TEST_REDIS_CERT_FILE, REDIS_KEY_FILE: TEST_REDIS_KEY_FILE };
  const known = { REDIS_URL: url, REDIS_CA_FILE: TEST_REDIS_CA_FILE };
  const others = authority(certificateFolder(), "others");
  const other = others.sign("localhost");
  const openWith = async (environment: Environment) => {
    const { log, logged } = loggedLines();
    const store = await open([service({ keeps: [cards] })], { ...environment, REDIS_PREFIX: `test.${randomUUID()}.` }, new Metrics(), log);
    return { handle: store?.store.of(cards), ready: readinessOf(store?.parts ?? []), logged };
  };

  test("holds values for who has one, and believes it", async () => {
    const { handle, ready, logged } = await openWith({ ...known, ...pair });
    await vi.waitFor(async () => expect(await ready()).toEqual({ ready: true, checks: { kv: "ok", redis: "ok" } }), 10_000);
    await handle?.set("a", { id: "1" });
    expect(await handle?.get("a")).toMatchObject({ id: "1" });
    expect(logged).toEqual([]);
  });

  test.each([
    ["whose authority isn't known", { ...known, ...pair, REDIS_CA_FILE: others.caFile }, /^REDIS_CA_FILE: none of its authorities/],
    ["for which no authority is named", { REDIS_URL: url, ...pair }, /^REDIS_CA_FILE must name who signs its certificate/],
    ["at a host that its certificate doesn't name", { ...known, ...pair, REDIS_URL: at127(url) }, /^REDIS_URL: .* another host/],
    ["to which none is shown", known, /^REDIS_CERT_FILE: it wants a certificate/],
    [
      "to which another's is shown",
      { ...known, REDIS_CERT_FILE: other.certFile, REDIS_KEY_FILE: other.keyFile },
      /^REDIS_CERT_FILE: it doesn't believe/,
    ],
    ["that is asked as if it didn't encrypt", { REDIS_URL: url.replace("rediss:", "redis:") }, /^REDIS_URL: .* may take TLS alone/],
    [
      "that is asked where it doesn't encrypt",
      { ...known, REDIS_URL: (process.env.REDIS_URL ?? "").replace("redis:", "rediss:") },
      /^REDIS_URL: .* doesn't encrypt there/,
    ],
  ])("%s is done without, and it is told why", async (_, environment, reason) => {
    const { handle, ready, logged } = await openWith(environment);
    await vi.waitFor(() => expect(logged.map(({ err }) => err?.message)).toContainEqual(expect.stringMatching(reason)), 10_000);
    expect(await ready()).toEqual({ ready: true, checks: { kv: "ok", redis: "unreachable" } });
    expect(await handle?.get("a")).toBeUndefined();
  });

  test("is told to be another's though it was away before for another reason", async () => {
    const { port, line } = await openLine({ host: "127.0.0.1", port: Number(new URL(url).port) });
    line("cut");
    const { logged } = await openWith({ ...known, ...pair, REDIS_URL: `rediss://:polis@127.0.0.1:${port}` });
    const told = () => logged.map(({ err }) => err?.message);
    await vi.waitFor(() => expect(told()).toEqual([expect.stringMatching(/^REDIS_URL: it ends the connection/)]), 10_000);
    line("open");
    await vi.waitFor(() => expect(told().slice(1)).toEqual([expect.stringMatching(/^REDIS_URL: .* another host/)]), 10_000);
  });
});

test("a Redis that encrypts is told which host is meant; why it isn't reached is told once, not with each try", async () => {
  const ours = authority(certificateFolder(), "ours");
  const { log, logged } = loggedLines();
  const { port, names } = await namesAsked(ours.sign("localhost"));
  const environment = { REDIS_URL: `rediss://localhost:${port}`, REDIS_CA_FILE: ours.caFile };
  await open([service({ keeps: [cards] })], environment, new Metrics(), log);
  await vi.waitFor(() => expect(names.slice(0, 4)).toEqual(Array.from({ length: 4 }, () => "localhost")), 10_000);
  expect(logged.map(({ err }) => err?.message)).toEqual([expect.stringMatching(/^REDIS_URL: it ends the connection/)]);
});

test("what has expired is deleted while the process runs", async () => {
  vi.useFakeTimers({ toFake: ["setInterval"] });
  onTestFinished(() => void vi.useRealTimers());
  const store = await open([service({ keeps: [cards] })]);
  await store?.store.of(cards).set("short", { id: "1" }, 1);
  const database = await databases.open("kv", []);
  onTestFinished(() => database.close());
  const left = async () => (await database.query({ text: "SELECT FROM passing_values WHERE key = 'test.card:short'" })).rowCount;
  expect(await left()).toBe(1);
  await vi.waitFor(async () => {
    vi.advanceTimersByTime(10_000);
    expect(await left()).toBe(0);
  });
});

test("however much has expired, all of it is deleted each time", async () => {
  vi.useFakeTimers({ toFake: ["setInterval"] });
  onTestFinished(() => void vi.useRealTimers());
  await open([service({ keeps: [cards] })]);
  const database = await databases.open("kv", []);
  onTestFinished(() => database.close());
  await database.query({
    text: `INSERT INTO passing_values (key, value, expires_at)
           SELECT 'test.card:many ' || n, '', now() - interval '1 s' FROM generate_series(1, 3500) AS n`,
  });
  const left = async () => (await database.query({ text: "SELECT FROM passing_values WHERE key LIKE 'test.card:many %'" })).rowCount;
  expect(await left()).toBe(3_500);
  vi.advanceTimersByTime(10_000);
  // Which moves the clock as well, and by less than to the next time.
  await vi.waitFor(async () => expect(await left()).toBe(0), 5_000);
});

test("a process that closes its store leaves no connection to Redis, and says no more whether it is away", {
  skip: !isRedisThere,
}, async () => {
  const { connection: redis, sockets } = await redisBehindLine();
  const metrics = new Metrics();
  const store = await open([service({ keeps: [cards] })], { REDIS_URL: written(redis) }, metrics);
  await vi.waitFor(async () => expect([sockets(), await saidAway(metrics)]).toEqual([1, "0"]), 10_000);
  await store?.close();
  await vi.waitFor(() => expect(sockets()).toBe(0), 10_000);
  expect(await saidAway(metrics)).toBe("0");
});

test("a store that can't be opened leaves no connection to Redis, either", { skip: !isRedisThere }, async () => {
  const { connection: redis, sockets } = await redisBehindLine();
  const failing: typeof databases = {
    ...databases,
    async open() {
      await vi.waitFor(() => expect(sockets()).toBe(1), 10_000);
      throw new Error("no database");
    },
  };
  await expect(open([service({ keeps: [cards] })], { REDIS_URL: written(redis) }, new Metrics(), testLog, failing)).rejects.toThrow(
    "no database",
  );
  await vi.waitFor(() => expect(sockets()).toBe(0), 10_000);
});
