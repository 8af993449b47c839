import { join } from "node:path";
import type { DescService, Message } from "@bufbuild/protobuf";
import type { Clock } from "#platform/clock.ts";
import { startConsumer } from "#platform/events/consumer.ts";
import { groupName } from "#platform/events/define-consumer.ts";
import type { EventLog } from "#platform/events/event-log.ts";
import type { Wakeups } from "#platform/events/wakeups.ts";
import { type Kv, kvOf, requireKv } from "#platform/kv/kv.ts";
import { startRelay } from "#platform/outbox/relay.ts";
import type { Database, Sql } from "#platform/postgres/database.ts";
import type { MigrationSet } from "#platform/postgres/migrate.ts";
import { allSchedulesOf, allTasksOf } from "#platform/process/housekeeping.ts";
import { AnswerCache } from "#platform/reads/answer-cache.ts";
import { cachedMethods } from "#platform/reads/cache-rules.ts";
import type { ReadContext } from "#platform/reads/query.ts";
import { ReadGate } from "#platform/reads/read-gate.ts";
import { type Rejection, reject } from "#platform/rejection.ts";
import type { Equipment, Use } from "#platform/resource.ts";
import { type Peers, peersOf } from "#platform/rpc/client.ts";
import type { Context } from "#platform/rpc/context.ts";
import { defineEndpoint, type Endpoint, type Handlers } from "#platform/rpc/endpoint.ts";
import type { Transport } from "#platform/rpc/transport.ts";
import type { ServiceDefinition } from "#platform/service.ts";
import type { TaskBroker } from "#platform/tasks/broker.ts";
import { startTaskWorker, type TaskWorker } from "#platform/tasks/task-worker.ts";
import type { Timings } from "#platform/tasks/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";
import type { Tracer } from "#platform/telemetry/tracing.ts";
import { callErrorOf } from "#platform/writes/call-error-of.ts";
import { manifestOf } from "#platform/writes/manifest.ts";
import { Writer } from "#platform/writes/writer.ts";

/** What all services of a process share. */
export type Surroundings = {
  readonly log: Log;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
  readonly clock: Clock;
  readonly timings: Timings;
  readonly wakeups: Wakeups;
  readonly eventLog: EventLog;
  /** Undefined where no service here keeps anything in it. */
  readonly kv: Kv | undefined;
  /** What carries tasks to workers; without one they look into their tables. */
  readonly broker: TaskBroker | undefined;
  /** Whether the tasks of a queue are done here. */
  readonly works: (queue: string) => boolean;
  /** The way to a service, in this process or elsewhere. */
  readonly transportFor: (service: DescService) => Transport;
};

export type HostedService = {
  readonly definition: ServiceDefinition;
  readonly database: Database;
  readonly endpoint: Endpoint;
  readonly writer: Writer;
  /** Starts what works by itself: the relay, the tasks and the consumers. Everything that they call must be there. */
  begin(): Promise<void>;
  /** Ends tasks and consumers, then the relay, after what is in flight. */
  end(): Promise<void>;
};

const platformFolder = join(import.meta.dirname, "..");

/** The migrations of a service's database: the platform's tables, then its own. */
export const migrationsOf = (definition: ServiceDefinition): MigrationSet[] => [
  ...["writes", "outbox", "inbox", "tasks"].map((part) => ({ name: part, folder: join(platformFolder, part, "migrations") })),
  { name: definition.name, folder: join(definition.folder, "migrations") },
];

/** Fewer than the connections of a service: writes, the relay and consumers find one however many read. */
const READS_AT_ONCE = 2;
const READS_WAITING_MAX = 2_000;

/** Hosts one service on its database and its resources: what answers calls now, and what works by itself from `begin` on. */
export function hostService(
  definition: ServiceDefinition,
  { database, use }: { readonly database: Database; readonly use: Use },
  surroundings: Surroundings,
): HostedService {
  const { name } = definition;
  const { metrics, tracer, clock, timings, wakeups, eventLog, broker, works } = surroundings;
  const log = surroundings.log.child({ service: name });
  const equipment: Equipment = { kv: kvOf(definition.contract, definition.keeps, surroundings.kv), use };
  const transportFor = declaredPeers(definition, surroundings.transportFor);
  const tasks = allTasksOf(definition);
  const schedules = allSchedulesOf(definition);
  let relay: ReturnType<typeof startRelay> | undefined;
  let worker: TaskWorker | undefined;
  const consumers: Awaited<ReturnType<typeof startConsumer>>[] = [];
  const cached = cachedMethods(definition);
  const cache =
    cached.length === 0 ? undefined : new AnswerCache({ service: name, methods: cached, kv: requireKv(surroundings.kv), metrics, log });
  const writer = new Writer({
    service: name,
    database,
    equipment,
    metrics,
    clock,
    manifest: manifestOf(name, {
      publishes: definition.publishes,
      tasks: tasks.map(({ schema }) => schema),
      caches: cached,
      offersTasks: broker !== undefined,
    }),
    published: () => relay?.wake(),
    enqueued: (enqueued) => worker?.enqueued(enqueued),
    forgotten: cache && ((groups) => cache.forget(groups)),
  });
  const endpoint = defineEndpoint(definition.contract, handlersOf({ definition, database, equipment, cache, writer, transportFor }), {
    name,
    metrics,
    tracer,
    log,
  });
  return {
    definition,
    database,
    endpoint,
    writer,
    async begin() {
      relay = startRelay({ service: name, database, log: eventLog, logger: log, metrics, timings, wakeups });
      worker = await startTaskWorker({
        service: name,
        database,
        tasks,
        schedules,
        works,
        apply: writer.apply,
        equipment,
        broker,
        logger: log,
        metrics,
        tracer,
        clock,
        timings,
        wakeups,
        transportFor,
      });
      for (const [consumerName, consumer] of Object.entries(definition.consumers)) {
        const group = groupName(name, consumerName);
        consumers.push(
          await startConsumer({
            group,
            service: name,
            consumer,
            database,
            apply: writer.apply,
            equipment,
            log: eventLog,
            logger: log.child({ group }),
            metrics,
            tracer,
            clock,
            timings,
            transportFor,
          }),
        );
      }
    },
    async end() {
      await Promise.all([worker?.stop(), ...consumers.map((consumer) => consumer.stop())]);
      await relay?.stop();
    },
  };
}

type HandlerTools = {
  readonly definition: ServiceDefinition;
  readonly database: Database;
  readonly equipment: Equipment;
  readonly cache: AnswerCache | undefined;
  readonly writer: Writer;
  readonly transportFor: Surroundings["transportFor"];
};

/** The way to what the manifest names: whoever reads it knows whom the service calls, be it from an operation, a consumer or a task. */
function declaredPeers({ name, peers, contract }: ServiceDefinition, transportFor: Surroundings["transportFor"]): typeof transportFor {
  const known = new Set([contract, ...peers].map((peer) => peer.typeName));
  return (peer) => {
    if (!known.has(peer.typeName)) throw new Error(`${name} calls ${peer.typeName}, which its manifest doesn't name among its peers`);
    return transportFor(peer);
  };
}

function handlersOf({ definition, database, equipment, cache, writer, transportFor }: HandlerTools): Handlers<DescService> {
  const peersFor = (context: Context): Peers => peersOf(context, { service: definition.name, transportFor });
  const reads = new ReadGate(READS_AT_ONCE, READS_WAITING_MAX);
  const handlers = Object.entries(definition.operations).map(([method, operation]) => [
    method,
    handlerOf(operation, { database, equipment, cache, writer, peersFor, reads }),
  ]);
  return Object.fromEntries(handlers) as Handlers<DescService>;
}

type Stores = { readonly database: Database; readonly equipment: Equipment };

type AnyHandler = (request: Message, context: Context) => Promise<Message | Rejection> | AsyncIterable<Message | Rejection>;

function handlerOf(
  operation: ServiceDefinition["operations"][string],
  {
    cache,
    writer,
    peersFor,
    reads,
    ...stores
  }: Stores & {
    readonly cache: AnswerCache | undefined;
    readonly writer: Writer;
    readonly peersFor: (context: Context) => Peers;
    readonly reads: ReadGate;
  },
): AnyHandler {
  switch (operation.kind) {
    case "run":
      return (request, context) => writer.run(operation, request, context);
    case "operation":
      return (request, context) => writer.execute(operation, request, context, peersFor);
    case "query":
      return async (request, context) => {
        const read = () => reads.run(context, () => operation.read(request, readContext(stores, context, peersFor)));
        try {
          const answer = cache?.caches(operation.method) === true ? cache.answer(operation.method, request, context.caller, read) : read();
          return (await answer) ?? reject("not_found");
        } catch (error) {
          throw callErrorOf(error);
        }
      };
    case "stream":
      return (request, context) => {
        // For each of its statements alone: between two answers it may wait for long.
        const sql: Sql = { query: (statement) => reads.run(context, () => stores.database.query(statement)) };
        return withCallErrors(operation.read(request, { ...readContext(stores, context, peersFor), sql }));
      };
  }
}

async function* withCallErrors(answers: AsyncIterable<Message | Rejection>): AsyncGenerator<Message | Rejection, void> {
  try {
    yield* answers;
  } catch (error) {
    throw callErrorOf(error);
  }
}

const readContext = ({ database, equipment }: Stores, context: Context, peersFor: (context: Context) => Peers): ReadContext => ({
  ...equipment,
  sql: database,
  caller: context.caller,
  origin: context.origin,
  peer: peersFor(context),
  get signal() {
    return context.signal;
  },
});
