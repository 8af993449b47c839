import { join } from "node:path";
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { systemClock } from "#platform/clock.ts";
import { kafkaUrl } from "#platform/config/setting-types.ts";
import { missingEngines } from "#platform/engines.testing.ts";
import { noEquipment } from "#platform/equipment.testing.ts";
import { type RunningConsumer, startConsumer } from "#platform/events/consumer.ts";
import { type Consumer, groupName } from "#platform/events/define-consumer.ts";
import type { EventLog, Groups } from "#platform/events/event-log.ts";
import { newEvent } from "#platform/events/event-types.ts";
import type { KafkaConnection } from "#platform/events/kafka-client.ts";
import { kafkaGroups } from "#platform/events/kafka-groups.ts";
import { openKafkaLog } from "#platform/events/kafka-log.ts";
import { partitionOf } from "#platform/events/partition.ts";
import { postgresGroups } from "#platform/events/postgres-groups.ts";
import { openPostgresLog, type PostgresLog } from "#platform/events/postgres-log.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { defaultEventTimings, type EventTimings } from "#platform/events/timings.ts";
import { uuidv7 } from "#platform/ids.ts";
import { testDatabase, testLog } from "#platform/postgres/database.testing.ts";
import type { Database } from "#platform/postgres/database.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { passingTracer } from "#platform/telemetry/tracing.ts";
import { text, uuid } from "#platform/writes/columns.ts";
import { manifestOf } from "#platform/writes/manifest.ts";
import { table } from "#platform/writes/table.ts";
import { Writer } from "#platform/writes/writer.ts";

const platform = join(import.meta.dirname, "..");

export const logMigrations = [join(platform, "events", "migrations")];
export const serviceMigrations = ["writes", "outbox", "inbox"].map((part) => join(platform, part, "migrations"));

/** Everything a good deal faster than in life. */
export const testTimings: EventTimings = {
  ...defaultEventTimings,
  outboxLeaseMs: 600,
  outboxHeartbeatMs: 100,
  outboxPollMs: 100,
  memberLeaseMs: 800,
  heartbeatMs: 100,
  partingMs: 500,
  firstPauseMs: 10,
  longestPauseMs: 50,
  retryPausesMs: [10, 20, 30],
  parkedPollMs: 50,
  deadLetterCountMs: 50,
};

/** One process's view of the log. */
export const testEventLog = (database: Database, timings: EventTimings = testTimings, metrics: Metrics = new Metrics()): PostgresLog =>
  openPostgresLog({ database, logger: testLog, metrics, timings });

/** A record with nothing much in it. */
export const plainEvent = (topic: string, key: string, eventId: string, payload = ""): EventRecord => ({
  topic,
  key,
  eventId,
  type: "x",
  occurredAtMs: 0,
  traceparent: "",
  actor: "",
  causationId: "",
  payload: Buffer.from(payload),
});

/** A key in each of four partitions, in their order. */
export const keysOfFour = [0, 1, 2, 3].map((wanted) => {
  for (let n = 0; ; n++) if (partitionOf(`k${n}`, 4) === wanted) return `k${n}`;
});

/** The cluster that KAFKA_URL names, with names of its own there. Throws where none is named. */
export function testKafka(prefix = `test.${uuidv7()}.`): KafkaConnection {
  const url = kafkaUrl.parse(process.env.KAFKA_URL ?? "");
  if (url === undefined) throw new Error("KAFKA_URL names no cluster");
  return { brokers: url.brokers, prefix };
}

/** An engine of the event log, for tests that hold on each of them. */
export type LogEngine = {
  readonly name: string;
  /** The engine isn't there, and its tests are skipped, which engines.testing.ts says. In CI it is there. */
  readonly isAway: boolean;
  /** The log as one process sees it, which may be told where to keep its metrics. */
  open(metrics?: Metrics): EventLog;
  /** Its groups, as somebody sees them who runs none. */
  groups(): Groups;
  /** Opens an empty log from now on. */
  reset(): Promise<void>;
};

/** PostgreSQL on a database of its own, and Kafka where KAFKA_URL says where (`.ci/engines up kafka`). */
export async function logEngines(): Promise<readonly LogEngine[]> {
  const database = await testDatabase({ migrations: logMigrations, maxConnections: 10 });
  let prefix = `test.${uuidv7()}.`;
  return [
    {
      name: "in PostgreSQL",
      isAway: false,
      open: (metrics) => testEventLog(database, testTimings, metrics),
      groups: () => postgresGroups(database),
      reset: async () => void (await database.query({ text: "TRUNCATE topics, partitions, log, groups, positions, members, leases" })),
    },
    {
      name: "in Kafka",
      isAway: missingEngines(["kafka"]).length > 0,
      open: (metrics = new Metrics()) => openKafkaLog({ connection: testKafka(prefix), logger: testLog, metrics, timings: testTimings }),
      groups: () => kafkaGroups(testKafka(prefix)),
      reset: async () => {
        prefix = `test.${uuidv7()}.`;
      },
    },
  ];
}

export type Effect = { readonly id: string; readonly key: string; readonly value: string };

/** What test consumers write: a row an event. Ids grow, so they tell the order of the writes. */
export const effects = table<Effect>("effects", { id: uuid, key: text, value: text });

export async function createEffects(database: Database): Promise<void> {
  await database.query({ text: "CREATE TABLE effects (id uuid PRIMARY KEY, key text NOT NULL, value text NOT NULL)" });
}

/** The values written for each key, in order. */
export async function effectsByKey(database: Database): Promise<Map<string, string[]>> {
  const { rows } = await database.query<Effect>({ text: "SELECT key, value FROM effects ORDER BY id" });
  const byKey = new Map<string, string[]>();
  for (const { key, value } of rows) byKey.set(key, [...(byKey.get(key) ?? []), value]);
  return byKey;
}

export const allEffects = async (database: Database): Promise<string[]> => [...(await effectsByKey(database)).values()].flat();

/** An OrderCreated of this order, whose description is `value`. */
export const orderCreated = (orderId: string, value: string, eventId: string = uuidv7()): EventRecord =>
  record(OrderCreatedSchema, { orderId, userId: uuidv7(), amount: 1n, currency: "RUB", description: value }, eventId);

export const record = (schema: DescMessage, data: object, eventId: string = uuidv7()): EventRecord =>
  newEvent(schema, data, { eventId, nowMs: Date.now(), traceparent: "", actor: "nobody", causationId: "" });

/** An OrderCreated that no reader can accept. */
export const brokenOrderCreated = (orderId: string): EventRecord => ({
  ...orderCreated(orderId, "broken"),
  payload: toBinary(
    OrderCreatedSchema,
    create(OrderCreatedSchema, { data: { orderId: "no uuid" } } as MessageInitShape<typeof OrderCreatedSchema>),
  ),
});

export type TestConsumerOptions = {
  readonly database: Database;
  readonly log: EventLog;
  readonly consumer: Consumer;
  readonly name?: string;
  readonly timings?: EventTimings;
  readonly metrics?: Metrics;
};

/** A consumer as a process runs it: on a real Writer. */
export function startTestConsumer({
  database,
  log,
  consumer,
  name = "onTest",
  timings = testTimings,
  metrics = new Metrics(),
}: TestConsumerOptions): Promise<RunningConsumer> {
  const writer = new Writer({
    service: "test",
    database,
    equipment: noEquipment,
    metrics,
    manifest: manifestOf("test", {}),
    published: () => {},
    enqueued: () => {},
  });
  return startConsumer({
    group: groupName("test", name),
    service: "test",
    consumer,
    database,
    equipment: noEquipment,
    apply: writer.apply,
    log,
    logger: testLog,
    metrics,
    tracer: passingTracer,
    clock: systemClock,
    timings,
    transportFor: (service) => {
      throw new Error(`${service.typeName} isn't called here`);
    },
  });
}
