import { join } from "node:path";
import type { DescMessage } from "@bufbuild/protobuf";
import { engineTls } from "#platform/config/certificates.ts";
import { EVENTS_DATABASE, type PlatformSettings } from "#platform/config/platform-settings.ts";
import type { EventLog, Groups } from "#platform/events/event-log.ts";
import type { KafkaConnection } from "#platform/events/kafka-client.ts";
import { postgresGroups } from "#platform/events/postgres-groups.ts";
import { openPostgresLog } from "#platform/events/postgres-log.ts";
import { type EventTimings, growingPauseMs } from "#platform/events/timings.ts";
import type { Wakeups } from "#platform/events/wakeups.ts";
import { NO_SUCH_DATABASE, sqlState } from "#platform/postgres/errors.ts";
import type { MigrationSet } from "#platform/postgres/migrate.ts";
import type { Databases } from "#platform/process/databases.ts";
import { reachDatabase } from "#platform/process/reach-database.ts";
import { openSchemaRegistry, type SchemaRegistry } from "#platform/schemas/schema-registry.ts";
import type { ServiceDefinition } from "#platform/service.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/** The tables of the event log in PostgreSQL. */
export const eventMigrations: readonly MigrationSet[] = [
  { name: "events", folder: join(import.meta.dirname, "..", "events", "migrations") },
];

/** Every event that these services publish or consume, once. */
export const eventsOf = (services: readonly ServiceDefinition[]): DescMessage[] => [
  ...new Set(
    services.flatMap(({ publishes, consumers }) => [
      ...publishes,
      ...Object.values(consumers).flatMap(({ handlers }) => handlers.map(({ schema }) => schema)),
    ]),
  ),
];

export type EventLogOptions = {
  readonly settings: PlatformSettings;
  readonly databases: Databases;
  /** Without them, processes learn of each other's events in PostgreSQL by their slow poll. */
  readonly wakeups: Wakeups | undefined;
  /** What is published from here, for the schema registry where there is one. */
  readonly publishes: readonly DescMessage[];
  readonly logger: Log;
  readonly metrics: Metrics;
  readonly timings: EventTimings;
  /** The process can't go on and must end. */
  readonly onLost: (error: Error) => void;
};

/**
 * The event log of a process: Kafka where KAFKA_URL says where it is, and otherwise a database of its own. Throws where the schema
 * registry refuses a schema.
 */
export async function openEventLog({ settings, databases, wakeups, publishes, onLost, ...shared }: EventLogOptions): Promise<EventLog> {
  const connection = await kafkaConnection(settings);
  if (connection !== undefined) {
    // A client is loaded only where its engine is used.
    const { openKafkaLog } = await import("#platform/events/kafka-log.ts");
    const registry = await registerSchemas(settings, publishes, shared, onLost);
    const log = openKafkaLog({ connection, replicas: settings.kafka.replicas, headerOf: registry?.headerOf, ...shared });
    return {
      ...log,
      async close() {
        await log.close();
        await registry?.close();
      },
    };
  }
  const database = await databases.open(EVENTS_DATABASE, eventMigrations);
  const log = openPostgresLog({ database, wakeups, ...shared });
  return {
    ...log,
    async close() {
      await log.close();
      await database.close();
    },
  };
}

/** The schema registry where SCHEMA_REGISTRY_URL says where it is, told of what is published from here. */
async function registerSchemas(
  { schemaRegistry: { url, compatibility } }: PlatformSettings,
  publishes: readonly DescMessage[],
  { logger: log, timings }: Pick<EventLogOptions, "logger" | "timings">,
  onRefused: (error: Error) => void,
): Promise<SchemaRegistry | undefined> {
  if (url === undefined) return undefined;
  const pauseMs = (failures: number): number => growingPauseMs(failures, timings);
  const registry = openSchemaRegistry({ url, compatibility, log, pauseMs, onRefused });
  await registry.register(publishes);
  return registry;
}

/** The groups of the log, beside the processes that run them. Throws where there is no log. */
export async function reachGroups(surroundings: {
  readonly settings: PlatformSettings;
  readonly log: Log;
}): Promise<{ readonly groups: Groups; close(): Promise<void> }> {
  const connection = await kafkaConnection(surroundings.settings);
  if (connection !== undefined) {
    const { kafkaGroups } = await import("#platform/events/kafka-groups.ts");
    return { groups: kafkaGroups(connection), close: async () => {} };
  }
  const { database, close } = await reachDatabase(EVENTS_DATABASE, surroundings).catch((cause: unknown) => {
    if (sqlState(cause) !== NO_SUCH_DATABASE) throw cause;
    throw new Error("there is no event log in this PostgreSQL; where it is in Kafka, KAFKA_URL must say so here as well", { cause });
  });
  return { groups: postgresGroups(database), close };
}

/** How the settings say that Kafka is reached; undefined where they don't. Throws, naming the setting, where a file can't be read. */
async function kafkaConnection({ kafka }: PlatformSettings): Promise<KafkaConnection | undefined> {
  const { url, mechanism, prefix = "" } = kafka;
  if (url === undefined) return undefined;
  const sasl = url.user && { mechanism, username: url.user.name, password: url.user.password };
  return { brokers: url.brokers, prefix, sasl, tls: await engineTls("KAFKA", { tls: url.tls, scheme: "kafkas" }, kafka) };
}
