import type { DescMessage, DescService, MessageInitShape } from "@bufbuild/protobuf";
import { afterAll } from "vitest";
import type { Caller } from "#platform/access/caller.ts";
import { secretsOf } from "#platform/access/secrets.ts";
import { systemClock } from "#platform/clock.ts";
import { KV_DATABASE, type PlatformSettings } from "#platform/config/platform-settings.ts";
import { type Environment, readSettings } from "#platform/config/settings.ts";
import { testEventLog } from "#platform/events/event-log.testing.ts";
import type { EventLog } from "#platform/events/event-log.ts";
import { topicsOf } from "#platform/events/event-types.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { createKv, type Kv } from "#platform/kv/kv.ts";
import { postgresEngine } from "#platform/kv/postgres-engine.ts";
import { isRedisThere, openTestRedis, testRedis } from "#platform/kv/redis.testing.ts";
import type { RedisConnection } from "#platform/kv/redis-connection.ts";
import { testDatabase, testLog } from "#platform/postgres/database.testing.ts";
import type { Database } from "#platform/postgres/database.ts";
import { eventMigrations, eventsOf } from "#platform/process/event-log.ts";
import { type HostedService, hostService, migrationsOf } from "#platform/process/host-service.ts";
import { kvMigrations, usesKeyValueStore } from "#platform/process/key-value-store.ts";
import { settingsTableOf } from "#platform/process/own-settings.ts";
import { openResources } from "#platform/process/resources.ts";
import type { Use } from "#platform/resource.ts";
import { type Client, createClient } from "#platform/rpc/client.ts";
import type { ServiceDefinition } from "#platform/service.ts";
import { enqueueBy, noWakeups } from "#platform/tasks/task-service.testing.ts";
import type { EnqueueOptions } from "#platform/tasks/task-types.ts";
import { testTaskTimings } from "#platform/tasks/tasks.testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { passingTracer } from "#platform/telemetry/tracing.ts";

/** Services hosted as in a process, with neither HTTP nor gRPC before them. */
export type TestServices = {
  client<S extends DescService>(service: S, caller: Caller): Client<S>;
  /** The database of a service, or the log's, `events`, or where a service keeps something in it the key-value store's, `kv`. */
  database(name: string): Database;
  readonly eventLog: EventLog;
  /** Has a task of a service done. */
  enqueue<T extends DescMessage>(service: string, schema: T, data: MessageInitShape<T>, options?: EnqueueOptions): Promise<string>;
  /** Every record of these services' topics, from the first on, as the log gives it. */
  hear(): Promise<readonly EventRecord[]>;
  /** Starts relays, consumers, tasks and schedules; they end after the tests of the file. */
  begin(): Promise<void>;
  /**
   * Resolves when all that was published has been relayed, and handled by every group or given up as a dead letter, and due tasks have
   * ended. Throws before `begin`: nothing would ever be.
   */
  quiet(): Promise<void>;
  /** The same services once more on the same data, as a second process hosts them. */
  copy(): Promise<TestServices>;
};

/** Of which their resources derive keys. */
export const testSecrets = secretsOf(["a secret of the tests, of thirty-two characters and more"]);

/** The key-value store, with Redis where there is one. */
async function openStore(database: Database, redis: RedisConnection | undefined): Promise<Kv> {
  const engine = redis && (await openTestRedis(redis));
  return createKv({
    kept: postgresEngine(database, "kept"),
    passing: engine ?? postgresEngine(database, "passing"),
    copies: engine,
    metrics: new Metrics(),
  });
}

const QUIET_POLL_MS = 10;
const QUIET_TRIES_MAX = 1_000;

/**
 * Hosts services on fresh databases, and on the Redis that REDIS_URL names. They reach each other; other peers are not there.
 * @example const { client } = await testServices(accountsService, paymentsService);
 */
export const testServices = (...definitions: readonly ServiceDefinition[]): Promise<TestServices> => testServicesWith({}, ...definitions);

/** The same, whose resources read their settings from this environment, which is empty unless said. */
export async function testServicesWith(
  { environment = {} }: { readonly environment?: Environment },
  ...definitions: readonly ServiceDefinition[]
): Promise<TestServices> {
  const { own } = readSettings(environment, settingsTableOf(definitions, []));
  const sets = new Map([
    ["events", eventMigrations],
    ...(usesKeyValueStore(definitions) ? [[KV_DATABASE, kvMigrations] as const] : []),
    ...definitions.map((each) => [each.name, migrationsOf(each)] as const),
  ]);
  const databases = new Map<string, Database>();
  for (const [name, of] of sets) databases.set(name, await testDatabase({ migrations: of.map(({ folder }) => folder) }));
  const topics = topicsOf(eventsOf(definitions));
  const redis = isRedisThere ? testRedis() : undefined;
  const host = async (): Promise<TestServices> => {
    const uses = new Map<string, Use>();
    for (const each of definitions) uses.set(each.name, await openTestResources(each, databases.get(each.name) as Database, own));
    const kvDatabase = databases.get(KV_DATABASE);
    return hostAll(
      definitions,
      { databases, uses },
      kvDatabase && (await openStore(kvDatabase, redis)),
      topics.map(({ name }) => name),
      host,
    );
  };
  const made = await host();
  await made.eventLog.ensureTopics(topics);
  return made;
}

async function openTestResources(definition: ServiceDefinition, database: Database, settings: PlatformSettings["own"]): Promise<Use> {
  const { use, close } = await openResources(definition, {
    settings,
    database,
    secrets: testSecrets,
    clock: systemClock,
    log: testLog,
    metrics: new Metrics(),
  });
  afterAll(close);
  return use;
}

function hostAll(
  definitions: readonly ServiceDefinition[],
  { databases, uses }: { readonly databases: ReadonlyMap<string, Database>; readonly uses: ReadonlyMap<string, Use> },
  kv: Kv | undefined,
  topics: readonly string[],
  copy: () => Promise<TestServices>,
): TestServices {
  const database = (name: string): Database => {
    const found = databases.get(name);
    if (found === undefined) throw new Error(`no database ${name} in this test`);
    return found;
  };
  const hosted = new Map<string, HostedService>();
  const transportFor = (service: DescService) => {
    const found = hosted.get(service.typeName);
    if (found === undefined) throw new Error(`${service.typeName} isn't hosted in this test`);
    return found.endpoint;
  };
  let hasBegun = false;
  const eventLog = testEventLog(database("events"));
  const surroundings = {
    log: testLog,
    metrics: new Metrics(),
    tracer: passingTracer,
    clock: systemClock,
    timings: testTaskTimings,
    wakeups: noWakeups,
    eventLog,
    kv,
    broker: undefined,
    works: () => true,
    transportFor,
  };
  for (const each of definitions) {
    const own = { database: database(each.name), use: uses.get(each.name) as Use };
    hosted.set(each.contract.typeName, hostService(each, own, surroundings));
  }
  const ends: (() => Promise<void>)[] = [() => eventLog.close()];
  afterAll(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });
  const publishedCount = async (): Promise<unknown> =>
    (await database("events").query({ text: "SELECT coalesce(sum(next_offset), 0)::text AS n FROM partitions" })).rows[0]?.n;
  // What was handled before the lag was read stands in an outbox afterwards, unless it was published: then the count tells.
  const isQuiet = async (): Promise<boolean> => {
    const before = await publishedCount();
    if ((await eventLog.lag()).some(({ events }) => events > 0n)) return false;
    for (const { name } of definitions) {
      const waiting = `SELECT FROM dead_letters WHERE state = 'retrying' UNION ALL SELECT FROM outbox
                       UNION ALL SELECT FROM tasks WHERE (state = 'WAITING' AND run_at <= now()) OR state IN ('RUNNING', 'BLOCKED') LIMIT 1`;
      if ((await database(name).query({ text: waiting })).rowCount > 0) return false;
    }
    return (await publishedCount()) === before;
  };
  return {
    client: (service, caller) => createClient(service, transportFor(service), { caller }),
    database,
    eventLog,
    async enqueue(service, schema, data, options) {
      const host = [...hosted.values()].find(({ definition }) => definition.name === service);
      if (host === undefined) throw new Error(`${service} isn't hosted in this test`);
      return enqueueBy(host.writer, service, schema, data, options);
    },
    async hear() {
      const heard: EventRecord[] = [];
      const { stop } = await eventLog.subscribe({
        group: "test.hears",
        topics,
        handle: async ({ records }) => void heard.push(...records),
      });
      ends.push(stop);
      return heard;
    },
    async begin() {
      hasBegun = true;
      for (const service of hosted.values()) {
        ends.push(() => service.end());
        await service.begin();
      }
    },
    async quiet() {
      if (!hasBegun) throw new Error("quiet() waits for relays, consumers and tasks, which begin() starts: await services.begin() first");
      for (let tries = 0; !(await isQuiet()); tries += 1) {
        if (tries >= QUIET_TRIES_MAX) throw new Error("events or tasks are still on their way");
        await new Promise((resolve) => setTimeout(resolve, QUIET_POLL_MS));
      }
    },
    copy,
  };
}
