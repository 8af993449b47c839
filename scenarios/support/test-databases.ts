import { randomUUID } from "node:crypto";
import { type ClientConfig, Pool } from "pg";
import { afterAll } from "vitest";
import { EVENTS_DATABASE, KV_DATABASE, ownDatabaseSettings } from "#platform/config/platform-settings.ts";
import { testDatabaseConnection, testServer } from "#platform/postgres/database.testing.ts";
import { eventMigrations } from "#platform/process/event-log.ts";
import { migrationsOf } from "#platform/process/host-service.ts";
import { allTasksOf } from "#platform/process/housekeeping.ts";
import { kvMigrations } from "#platform/process/key-value-store.ts";
import { deleteQueues, testRabbit } from "#platform/tasks/rabbit.testing.ts";
import { ownersOfQueues } from "#platform/tasks/task-types.ts";
import { orderPayments } from "../../systems/order-payments.ts";
import { databaseSettings, engineSettings } from "./engine-settings.ts";

export const SECRET = "the secret of a deployment that is there for its tests alone";

/** The databases of the order payments, the log's among them, by their services' names. */
export type TestDatabases = {
  /** What processes on them are told: where they are, through a pooler where the tests have one, and their event log. */
  readonly environment: Readonly<Record<string, string>>;
  /** The database of a service, around any pooler. */
  connection(service: string): ClientConfig;
  query<T extends object>(service: string, text: string, values?: readonly unknown[]): Promise<T[]>;
};

/** Kafka, a schema registry and RabbitMQ where the tests run on them, with topics and queues of their own for those who share this. */
export function enginesOfTests(): Readonly<Record<string, string>> {
  const prefix = `test.${randomUUID()}.`;
  if (process.env.RABBITMQ_URL !== undefined) afterAll(() => deleteQueues(testRabbit(prefix), QUEUES));
  return engineSettings(prefix);
}

const QUEUES = [...ownersOfQueues(orderPayments.services.map((service) => ({ name: service.name, tasks: allTasksOf(service) }))).keys()];

/** `end` doesn't wait for its connections to be closed, nor hears them: the database may be dropped under them. */
function quietPool(connection: ClientConfig): Pool {
  const pool = new Pool({ ...connection, max: 2 });
  pool.on("error", () => undefined).on("connect", (client) => client.on("error", () => undefined));
  return pool;
}

/** Asks a database one question. */
export async function queryOn<T extends object>(connection: ClientConfig, text: string): Promise<T[]> {
  const pool = quietPool(connection);
  try {
    return (await pool.query<T>(text)).rows;
  } finally {
    await pool.end();
  }
}

/** Fresh databases on the run's server, with their tables unless said otherwise; dropped after the tests of the file. */
export async function testDatabases({ migrated = true } = {}): Promise<TestDatabases> {
  const sets = new Map([
    [EVENTS_DATABASE, eventMigrations],
    [KV_DATABASE, kvMigrations],
    ...orderPayments.services.map((service) => [service.name, migrationsOf(service)] as const),
  ]);
  const connections = new Map<string, ClientConfig>();
  for (const [name, of] of sets) connections.set(name, await testDatabaseConnection(migrated ? of.map(({ folder }) => folder) : []));
  const pools = new Map([...connections].map(([name, connection]) => [name, quietPool(connection)]));
  afterAll(async () => void (await Promise.all([...pools.values()].map((pool) => pool.end()))));
  return {
    environment: {
      POLIS_SECRET: SECRET,
      MAILBOX_PORT: "0",
      ...databaseSettings({ url: "POSTGRES_URL", directUrl: "POSTGRES_DIRECT_URL" }, testServer()),
      // The log's database as well, so that files of tests run beside each other.
      ...Object.assign({}, ...[...connections].map(([name, connection]) => databaseSettings(ownDatabaseSettings(name), connection))),
      ...enginesOfTests(),
    },
    connection: (service) => connections.get(service) as ClientConfig,
    async query<T extends object>(service: string, text: string, values: readonly unknown[] = []) {
      const { rows } = await (pools.get(service) as Pool).query<T>(text, [...values]);
      return rows;
    },
  };
}
