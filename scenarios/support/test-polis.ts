import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { Pool } from "pg";
import { afterAll } from "vitest";
import { type PlatformSettings, platformSettings } from "#platform/config/platform-settings.ts";
import { readSettings } from "#platform/config/settings.ts";
import type { EventLog, Groups } from "#platform/events/event-log.ts";
import { defaultEventTimings, type EventTimings } from "#platform/events/timings.ts";
import { testDatabaseConnection, testLog, testServer } from "#platform/postgres/testing.ts";
import { openDatabases } from "#platform/process/databases.ts";
import { eventMigrations, openEventLog, reachGroups } from "#platform/process/event-log.ts";
import { migrationsOf } from "#platform/process/host-service.ts";
import { type RunningProcess, startProcess } from "#platform/process/start-process.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { release } from "../../cli/release.ts";
import { orderPayments } from "../../systems/order-payments.ts";
import { urlOf } from "./postgres-url.ts";
import { type Rest, restOf } from "./rest-client.ts";

export const SECRET = "the secret of a deployment that is there for its tests alone";

/** The databases of the order payments, the log's among them, by their services' names. */
export type TestDatabases = {
  readonly urls: Readonly<Record<string, string>>;
  /** What processes on these databases are told of their event log: nothing, or Kafka where the tests run on it. */
  readonly eventLog: Readonly<Record<string, string>>;
  query<T extends object>(service: string, text: string, values?: readonly unknown[]): Promise<T[]>;
};

/** Kafka where KAFKA_URL says so, with topics of their own for those who share this. */
export const kafkaOfTests = (): Record<string, string> => {
  const { KAFKA_URL } = process.env;
  return KAFKA_URL === undefined ? {} : { KAFKA_URL, KAFKA_PREFIX: `test.${randomUUID()}.` };
};

/** Fresh databases on the run's server, cloned from migrated ones; dropped after the tests of the file. */
export async function testDatabases(): Promise<TestDatabases> {
  const sets = {
    events: eventMigrations,
    ...Object.fromEntries(orderPayments.services.map((service) => [service.name, migrationsOf(service)])),
  };
  const connections = await Promise.all(
    Object.entries(sets).map(async ([name, of]) => [name, await testDatabaseConnection(of.map(({ folder }) => folder))] as const),
  );
  const pools = new Map(connections.map(([name, connection]) => [name, new Pool({ ...connection, max: 2 })]));
  afterAll(async () => void (await Promise.all([...pools.values()].map((pool) => pool.end()))));
  return {
    eventLog: kafkaOfTests(),
    urls: Object.fromEntries(connections.map(([name, connection]) => [name, urlOf(connection)])),
    async query<T extends object>(service: string, text: string, values: readonly unknown[] = []) {
      const { rows } = await (pools.get(service) as Pool).query<T>(text, [...values]);
      return rows;
    },
  };
}

export type TestPolis = {
  readonly process: RunningProcess;
  /** REST as this user; without one, as nobody. */
  rest(userId?: string): Rest;
  stop(): Promise<void>;
};

const environmentOf = (databases: TestDatabases, more: Readonly<Record<string, string>> = {}): Record<string, string> => ({
  PORT: "0",
  POLIS_SECRET: SECRET,
  POSTGRES_URL: urlOf(testServer()),
  // The log's database as well, so that files of tests run beside each other.
  ...Object.fromEntries(Object.entries(databases.urls).map(([name, url]) => [`POSTGRES_URL_${name.toUpperCase()}`, url])),
  ...databases.eventLog,
  ...more,
});

const settingsOf = (databases: TestDatabases, environment: Readonly<Record<string, string>>): PlatformSettings =>
  readSettings(environment, platformSettings(Object.keys(databases.urls)), { data: join(import.meta.dirname, "none") });

/** The event log of these databases beside the processes that use it, and its groups. Closed after the tests of the file. */
export async function reachTestLog(
  databases: TestDatabases,
  timings: Partial<EventTimings> = {},
): Promise<{ log: EventLog; groups: Groups }> {
  const settings = settingsOf(databases, environmentOf(databases));
  const shared = { metrics: new Metrics(), timings: { ...defaultEventTimings, ...timings }, logger: testLog };
  const onLost = (error: Error): never => {
    throw error;
  };
  const opened = await openDatabases({ settings, release, log: testLog, metrics: shared.metrics, onLost });
  const log = await openEventLog({ settings, databases: opened, wakeups: undefined, publishes: [], onLost, ...shared });
  const { groups, close } = await reachGroups({ settings, log: testLog });
  afterAll(async () => {
    await log.close();
    await close();
    await opened.stop();
  });
  return { log, groups };
}

/** A whole process as `polis start` makes it, on these databases. Stopped after the tests of the file unless it was before. */
export async function startTestPolis(
  databases: TestDatabases,
  options: {
    /** Names of services; all, with the gateway, unless said. */
    readonly services?: readonly string[];
    readonly environment?: Readonly<Record<string, string>>;
    readonly timings?: Partial<EventTimings>;
  } = {},
): Promise<TestPolis> {
  const names = options.services ?? ["gateway", ...orderPayments.services.map(({ name }) => name)];
  const environment = environmentOf(databases, options.environment);
  const running = await startProcess({
    services: orderPayments.services.filter(({ name }) => names.includes(name)),
    edge: orderPayments.edges.find(({ name }) => names.includes(name)),
    system: orderPayments,
    settings: settingsOf(databases, environment),
    environment,
    release,
    log: testLog,
    ...(options.timings === undefined ? {} : { timings: options.timings }),
    onLost: (error) => {
      throw error;
    },
  });
  let stopped: Promise<void> | undefined;
  const stop = () => (stopped ??= running.stop());
  afterAll(stop);
  return { process: running, rest: (userId) => restOf(running.urls.http, userId), stop };
}
