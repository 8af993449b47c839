import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Producer } from "@platformatic/kafka";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { testKafka } from "#platform/events/event-log.testing.ts";
import { eventOptions, newEvent } from "#platform/events/event-types.ts";
import { clientOptions, nameThere } from "#platform/events/kafka-client.ts";
import { openKafkaLog } from "#platform/events/kafka-log.ts";
import { toMessage } from "#platform/events/kafka-messages.ts";
import { partitionOf } from "#platform/events/partition.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { defaultEventTimings } from "#platform/events/timings.ts";
import { uuidv7 } from "#platform/ids.ts";
import { outboxInsert } from "#platform/outbox/outbox.ts";
import { startRelay } from "#platform/outbox/relay.ts";
import { ensureDatabase } from "#platform/postgres/create-database.ts";
import { migrate } from "#platform/postgres/migrate.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { freePort } from "#platform/process/free-port.testing.ts";
import { migrationsOf } from "#platform/process/host-service.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { release } from "../cli/release.ts";
import { engineSettings } from "../scenarios/support/engine-settings.ts";
import { ordersService } from "../services/orders/service.ts";
import { orderPayments } from "../systems/order-payments.ts";
import { type Bench, type BenchContext, figure } from "./bench.ts";
import { authorizations, openHttpAccounts } from "./support/http-customers.ts";
import { startLoad } from "./support/load.ts";
import { benchLog } from "./support/log.ts";
import { ordersOverHttp } from "./support/orders-over-http.ts";
import { spawnPolis } from "./support/polis.ts";
import { openPublication } from "./support/publication.ts";
import { quantile, repeat } from "./support/repeat.ts";
import { alternate, median, type Round, ratioFigure } from "./support/rounds.ts";
import { type BenchServer, connect, startServer } from "./support/server.ts";

const ROUNDS = 3;
const EVENTS = 40_000;
/** As many as a batch of commands publishes where there is something to do. */
const EVENTS_A_ROW = 20;
/** What a send of the relay holds of such events. */
const EVENTS_A_SEND = 1_500;
const CUSTOMERS = 500;
const ORDERS = 4_000;
const CONNECTIONS = 64;
const SECRET = "the secret of a deployment that is there for a bench alone";

export const kafka: Bench = {
  name: "kafka",
  text: "outbox → Kafka beside the client's own produce; publish → handled; orders over Kafka in a process a service beside one",
  needs: ["kafka"],
  async run(context) {
    await relayed(context);
    await handled(context);
    await apart(context);
  },
};

const prefix = (): string => `bench.${randomUUID()}.`;

const settings = (): Readonly<Record<string, string>> => engineSettings(prefix());

/** From a full outbox to an empty one, beside a producer that sends the same messages, as idempotent, and one batch at a time. */
async function relayed({ report }: BenchContext): Promise<void> {
  await using parts = new AsyncDisposableStack();
  const server = await startServer(parts);
  const connection = testKafka(prefix());
  const { topic, partitions, retentionMs } = eventOptions(OrderCreatedSchema);
  const shared = { logger: benchLog(), metrics: new Metrics(), timings: defaultEventTimings };
  const log = openKafkaLog({ connection, ...shared });
  parts.defer(() => log.close());
  await log.ensureTopics([{ name: topic, partitions, retentionMs }]);
  await ensureDatabase(server.connection("postgres"), "outbox");
  await migrate({ connection: server.connection("outbox"), sets: migrationsOf(ordersService), release, log: shared.logger });
  const database = await openDatabase({
    connection: server.connection("outbox"),
    name: "outbox",
    log: shared.logger,
    metrics: shared.metrics,
  });
  parts.defer(() => database.close());
  const producer = new Producer({ ...clientOptions(connection), idempotent: true });
  parts.defer(() => producer.close());

  const relay = async (): Promise<Round> => {
    const records = events();
    for (let i = 0; i < EVENTS; i += EVENTS_A_ROW) await database.query(outboxInsert(records.slice(i, i + EVENTS_A_ROW)));
    const startedMs = performance.now();
    const running = startRelay({ service: "orders", database, log, ...shared });
    for (;;) {
      const { rows } = await database.query<{ waits: boolean }>({ text: "SELECT EXISTS (SELECT FROM outbox) AS waits" });
      if (rows[0]?.waits === false) break;
      await sleep(2);
    }
    const lastedMs = performance.now() - startedMs;
    await running.stop();
    return { value: (EVENTS / lastedMs) * 1_000 };
  };
  const client = async (): Promise<Round> => {
    const messages = events().map((record) =>
      toMessage(record, { topic: nameThere(connection, topic), partition: partitionOf(record.key, partitions), frameHeader: undefined }),
    );
    const startedMs = performance.now();
    for (let i = 0; i < EVENTS; i += EVENTS_A_SEND) await producer.send({ messages: messages.slice(i, i + EVENTS_A_SEND) });
    return { value: (EVENTS / (performance.now() - startedMs)) * 1_000 };
  };
  const found = await alternate({ relay, client }, ROUNDS, server.tidy);
  report(
    ratioFigure({
      name: "outbox → Kafka",
      unit: "events/s",
      rounds: found.relay,
      beside: { name: "the client's own produce", rounds: found.client },
      goal: { of: "ratio", atLeast: 0.5 },
      note: `${EVENTS} events, ${EVENTS_A_ROW} a row of the outbox, about ${EVENTS_A_SEND} a send`,
    }),
  );
}

function events(): EventRecord[] {
  const nowMs = Date.now();
  return Array.from({ length: EVENTS }, () => {
    const data = { orderId: uuidv7(), userId: randomUUID(), amount: 1n, currency: "RUB", description: "Two tickets to the opera" };
    return newEvent(OrderCreatedSchema, data, { nowMs, traceparent: "", actor: "nobody", causationId: "" });
  });
}

async function handled({ report }: BenchContext): Promise<void> {
  await using parts = new AsyncDisposableStack();
  const publish = await openPublication(await startServer(parts), parts, settings());
  for (const { pauseMs, pace } of [
    { pauseMs: 0, pace: "" },
    { pauseMs: 15, pace: ", after 15 ms of rest" },
  ]) {
    const times = await repeat(pauseMs, publish);
    report(
      figure({
        name: `publish → handled over Kafka, p50${pace}`,
        value: median(times),
        unit: "ms",
        medianOf: times.length,
        note: `p90 ${quantile(times, 0.9).toFixed(1)} ms; from the commit that publishes to the commit of what the handler wrote`,
        ...(pauseMs === 0 ? { goal: { of: "value", atMost: 20 } as const } : {}),
      }),
    );
  }
}

/** Each on a server of its own; while one is under load, the other rests. */
async function apart({ report }: BenchContext): Promise<void> {
  await using parts = new AsyncDisposableStack();
  const load = startLoad(parts);
  const flow = async (start: (server: BenchServer) => ReturnType<typeof spawnPolis>): Promise<() => Promise<Round>> => {
    const server = await startServer(parts);
    const polis = await start(server);
    const orders = await connect(server, "polis_orders", parts);
    const customers = await authorizations(server, parts, CUSTOMERS, SECRET);
    await openHttpAccounts(polis.url, customers);
    return ordersOverHttp({ polis, server, orders, load, customers, connections: CONNECTIONS, count: ORDERS });
  };
  const together = await flow((server) => spawnPolis(server, parts, undefined, { ...settings(), POLIS_SECRET: SECRET }));
  const many = await flow((server) => spawnApart(server, parts, settings()));
  const found = await alternate({ many, together }, ROUNDS);
  report(
    ratioFigure({
      name: `orders to FINISHED over Kafka, a process a service, ${CONNECTIONS} connections`,
      unit: "orders/s",
      rounds: found.many.map(({ value }) => ({ value })),
      beside: { name: "one process", rounds: found.together.map(({ value }) => ({ value })) },
      note: `${CUSTOMERS} customers; all of it on one machine: six processes and the load share its cores`,
    }),
  );
}

/** A process a service; the gateway. */
async function spawnApart(server: BenchServer, parts: AsyncDisposableStack, more: Readonly<Record<string, string>>) {
  const services = orderPayments.services.map(({ name }) => name);
  const ports = new Map<string, number>();
  for (const service of services) ports.set(service, await freePort());
  const addresses = Object.fromEntries([...ports].map(([service, port]) => [`${service.toUpperCase()}_URL`, `127.0.0.1:${port}`]));
  const environment = { ...more, ...addresses, POLIS_SECRET: SECRET };
  for (const [service, port] of ports) await spawnPolis(server, parts, service, { ...environment, GRPC_PORT: String(port) });
  return spawnPolis(server, parts, "gateway", environment);
}
