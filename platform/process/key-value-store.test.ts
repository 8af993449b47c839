import { expect, onTestFinished, test, vi } from "vitest";
import { ThingSchema } from "#contracts/polis/resttest/v1/resttest_pb.ts";
import { platformSettings } from "#platform/config/platform-settings.ts";
import { readSettings } from "#platform/config/settings.ts";
import { values } from "#platform/kv/kinds.ts";
import { kvMigrations as folder } from "#platform/kv/kv-engine.testing.ts";
import { isRedisThere, redisBehindLine } from "#platform/kv/redis.testing.ts";
import type { RedisConnection } from "#platform/kv/redis-connection.ts";
import { testDatabaseConnection, testLog } from "#platform/postgres/database.testing.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import type { Databases } from "#platform/process/databases.ts";
import { openKeyValueStore } from "#platform/process/key-value-store.ts";
import { readinessOf } from "#platform/process/readiness.ts";
import { cardsService } from "#platform/reads/cards/cards.testing.ts";
import type { ServiceDefinition } from "#platform/service.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

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

async function open(services: readonly ServiceDefinition[], environment: Record<string, string> = {}, metrics = new Metrics()) {
  const settings = readSettings(environment, platformSettings([]));
  const store = await openKeyValueStore({ settings, databases, services, log: testLog, metrics });
  if (store !== undefined) onTestFinished(() => store.close());
  return store;
}

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
  const metrics = new Metrics();
  const store = await open(
    [service({ keeps: [cards] })],
    { REDIS_URL: written(redis), REDIS_PREFIX: redis.prefix.replaceAll(":", ".") },
    metrics,
  );
  const ready = readinessOf(store?.parts ?? []);
  const away = async () => (await metrics.text()).match(/^polis_redis_away (\d)$/m)?.[1];
  await vi.waitFor(
    async () => expect([await ready(), await away()]).toEqual([{ ready: true, checks: { kv: "ok", redis: "ok" } }, "0"]),
    10_000,
  );
  const handle = store?.store.of(cards);
  await handle?.set("a", { id: "1" });
  expect(await handle?.get("a")).toMatchObject({ id: "1" });
  line("cut");
  await vi.waitFor(
    async () => expect([await ready(), await away()]).toEqual([{ ready: true, checks: { kv: "ok", redis: "unreachable" } }, "1"]),
    10_000,
  );
  expect(await handle?.get("a")).toBeUndefined();
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

test("a process that closes its store leaves no connection to Redis", { skip: !isRedisThere }, async () => {
  const { connection: redis, sockets } = await redisBehindLine();
  const store = await open([service({ keeps: [cards] })], { REDIS_URL: written(redis) });
  await vi.waitFor(() => expect(sockets()).toBe(1), 10_000);
  await store?.close();
  await vi.waitFor(() => expect(sockets()).toBe(0), 10_000);
});
