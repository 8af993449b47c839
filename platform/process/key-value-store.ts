import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { engineTls } from "#platform/config/certificates.ts";
import { KV_DATABASE, type PlatformSettings } from "#platform/config/platform-settings.ts";
import type { OpenKvEngine } from "#platform/kv/engine.ts";
import { createKv, type Kv } from "#platform/kv/kv.ts";
import { forgetExpired, postgresEngine } from "#platform/kv/postgres-engine.ts";
import type { Database } from "#platform/postgres/database.ts";
import type { MigrationSet } from "#platform/postgres/migrate.ts";
import type { Databases } from "#platform/process/databases.ts";
import { reachDatabase } from "#platform/process/reach-database.ts";
import { databasePart, type Part } from "#platform/process/readiness.ts";
import { cachedMethods } from "#platform/reads/cache-rules.ts";
import type { ServiceDefinition } from "#platform/service.ts";
import type { Log } from "#platform/telemetry/log.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

/** How often what has expired is deleted. */
const FORGET_EVERY_MS = 10_000;

/** The tables of the key-value store in PostgreSQL. */
export const kvMigrations: readonly MigrationSet[] = [{ name: "kv", folder: join(import.meta.dirname, "..", "kv", "migrations") }];

export const usesKeyValueStore = (services: readonly ServiceDefinition[]): boolean =>
  services.some((service) => service.keeps.length > 0 || cachedMethods(service).length > 0);

export type OpenKeyValueStore = {
  readonly store: Kv;
  readonly parts: readonly Part[];
  close(): Promise<void>;
};

/**
 * The key-value store of a process: a database of its own, and Redis where REDIS_URL says where it is. Undefined where nothing here
 * uses it. Where it can't be opened, nothing of it stays.
 */
export async function openKeyValueStore(options: {
  readonly settings: PlatformSettings;
  readonly databases: Databases;
  readonly services: readonly ServiceDefinition[];
  /** An edge is hosted: its limits are kept there, and it does without while they can't be. */
  readonly hasEdge?: boolean;
  readonly log: Log;
  readonly metrics: Metrics;
}): Promise<OpenKeyValueStore | undefined> {
  const { settings, databases, services, hasEdge = false, log, metrics } = options;
  const isNeeded = usesKeyValueStore(services);
  if (!isNeeded && !hasEdge) return undefined;
  await using stack = new AsyncDisposableStack();
  const redis = await openRedis({ settings, log, metrics }, stack);
  const database = await databases.open(KV_DATABASE, kvMigrations);
  stack.defer(() => database.close());
  const forgetting = forgetRegularly(database, log);
  stack.defer(() => forgetting.stop());
  const kept = postgresEngine(database, "kept");
  const opened = stack.move();
  return {
    store: createKv({ kept, passing: redis ?? postgresEngine(database, "passing"), copies: redis, metrics }),
    parts: [
      { ...databasePart(database), name: KV_DATABASE, isNeeded },
      ...(redis === undefined ? [] : [{ name: "redis", isNeeded: false, ask: () => redis.ask() }]),
    ],
    close: () => opened.disposeAsync(),
  };
}

/** A command waits so long for Redis. */
const REACH_MS = 2_000;
const REACH_POLL_MS = 20;

/** The store as it lies, beside the processes that use it; as with a database, nothing is made and nothing migrated. */
export async function reachKeyValueStore(opened: {
  readonly settings: PlatformSettings;
  readonly log: Log;
}): Promise<{ readonly kv: Kv; close(): Promise<void> }> {
  await using stack = new AsyncDisposableStack();
  const metrics = new Metrics();
  const redis = await openRedis({ ...opened, metrics }, stack);
  const { database, close } = await reachDatabase(KV_DATABASE, opened);
  stack.defer(close);
  if (redis !== undefined) {
    for (let waitedMs = 0; !redis.isReached && waitedMs < REACH_MS; waitedMs += REACH_POLL_MS) await pause(REACH_POLL_MS);
    // Else its copies of what is written here go on for as long as they may.
    if (!redis.isReached) opened.log.warn("Redis isn't reached: other processes may know of a change half a minute later");
  }
  const kept = postgresEngine(database, "kept");
  const running = stack.move();
  return {
    kv: createKv({ kept, passing: redis ?? postgresEngine(database, "passing"), copies: redis, metrics }),
    close: () => running.disposeAsync(),
  };
}

type RedisTools = { readonly settings: PlatformSettings; readonly log: Log; readonly metrics: Metrics };

async function openRedis({ settings, log, metrics }: RedisTools, stack: AsyncDisposableStack): Promise<OpenKvEngine | undefined> {
  const { url, prefix = "", ...files } = settings.redis;
  if (url === undefined) return undefined;
  // A client is loaded only where its engine is used.
  const { redisEngine } = await import("#platform/kv/redis-engine.ts");
  const tls = await engineTls("REDIS", { tls: url.tls, scheme: "rediss" }, files);
  const engine = redisEngine({ connection: { url, tls, prefix }, log });
  stack.defer(() => engine.close());
  const away = metrics.gauge("polis_redis_away", "1 while Redis isn't reached, and is done without", []);
  const stopMeasuring = metrics.measureWhenRead(() => away.set(engine.isReached ? 0 : 1));
  stack.defer(stopMeasuring);
  return engine;
}

/** In every process: they leave each other the rows that they have. */
function forgetRegularly(database: Database, log: Log): { stop(): Promise<void> } {
  let running: Promise<void> = Promise.resolve();
  let isStopped = false;
  const forget = async (): Promise<void> => {
    try {
      while (!isStopped && (await forgetExpired(database)) > 0);
    } catch (error) {
      log.warn({ err: error }, "what has expired in the key-value store stays for now");
    }
  };
  const timer = setInterval(() => {
    running = running.then(forget);
  }, FORGET_EVERY_MS);
  timer.unref();
  return {
    async stop() {
      isStopped = true;
      clearInterval(timer);
      await running;
    },
  };
}
