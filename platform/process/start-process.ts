import { type Caller, serviceCaller } from "#platform/access/caller.ts";
import { type CallerTokens, callerTokens } from "#platform/access/caller-token.ts";
import { deploymentSecret } from "#platform/access/secret.ts";
import { secretsOf } from "#platform/access/secrets.ts";
import { type Clock, systemClock } from "#platform/clock.ts";
import type { PlatformSettings } from "#platform/config/platform-settings.ts";
import type { EdgeSettings } from "#platform/edge/edge-settings.ts";
import { openProtection, type Protection } from "#platform/edge/protection.ts";
import { topicsOf } from "#platform/events/event-types.ts";
import { defaultEventTimings } from "#platform/events/timings.ts";
import { openWakeups } from "#platform/events/wakeups.ts";
import { type Kv, requireKv } from "#platform/kv/kv.ts";
import { openDatabases } from "#platform/process/databases.ts";
import { eventsOf, openEventLog } from "#platform/process/event-log.ts";
import { type HostedService, hostService, migrationsOf } from "#platform/process/host-service.ts";
import { startHttp } from "#platform/process/http.ts";
import { openKeyValueStore } from "#platform/process/key-value-store.ts";
import { listenAt } from "#platform/process/listen.ts";
import { protectionOf } from "#platform/process/own-settings.ts";
import { openPeers } from "#platform/process/peers.ts";
import { databasePart } from "#platform/process/readiness.ts";
import { openResources } from "#platform/process/resources.ts";
import { openTaskBroker } from "#platform/process/task-broker.ts";
import { workedQueues } from "#platform/process/worked-queues.ts";
import { createClient, type Peers } from "#platform/rpc/client.ts";
import { type GrpcServer, startGrpcServer } from "#platform/rpc/grpc-server.ts";
import { type GrpcTls, openGrpcTls } from "#platform/rpc/grpc-tls.ts";
import type { EdgeDefinition, OpenEdge, ServiceDefinition } from "#platform/service.ts";
import { defaultTaskTimings, type Timings } from "#platform/tasks/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { openTracer } from "#platform/telemetry/tracing.ts";

export type ProcessOptions = {
  /** What is hosted here. */
  readonly services: readonly ServiceDefinition[];
  /** The way in, if this process is one; it speaks for all services of the system. */
  readonly edge: EdgeDefinition | undefined;
  readonly system: { readonly title: string; readonly services: readonly ServiceDefinition[] };
  readonly settings: PlatformSettings;
  readonly environment: { readonly [name: string]: string | undefined };
  /** The release of the running code. */
  readonly release: string;
  readonly log: Log;
  readonly clock?: Clock;
  readonly timings?: Partial<Timings>;
  /** The process can't go on and must end. */
  readonly onLost: (error: Error) => void;
};

export type RunningProcess = {
  readonly urls: { readonly http: string; readonly grpc: string | undefined };
  /** Where its data are, for a person. */
  readonly database: string;
  readonly tokens: CallerTokens;
  readonly services: readonly HostedService[];
  /** Clients of every service of the system, for whoever is named. */
  clientFor(caller: Caller): Peers;
  /** Ends listeners first, then consumers, relays and pools, each after what is in flight. */
  stop(): Promise<void>;
};

/** Starts the parts of a process in the order in which they need each other. If one fails, those before it are stopped. */
export async function startProcess(options: ProcessOptions): Promise<RunningProcess> {
  const { settings, environment, release, log, system, clock = systemClock } = options;
  const timings = { ...defaultEventTimings, ...defaultTaskTimings, ...options.timings };
  const works = workedQueues(system.services, settings.queues);
  await using parts = new AsyncDisposableStack();

  const metrics = new Metrics({ runtime: true });
  const hostedNames = [...(options.edge === undefined ? [] : [options.edge.name]), ...options.services.map(({ name }) => name)];
  const isWhole = options.edge !== undefined && options.services.length === system.services.length;
  const tracer = await openTracer(environment, { name: isWhole ? "polis" : hostedNames.join("-"), release });
  parts.defer(() => tracer.shutdown());
  const databases = await openDatabases({ settings, release, log, metrics, onLost: options.onLost });
  parts.defer(() => databases.stop());
  // Before the wake-ups, which go on without a session: where PostgreSQL isn't reached, the start fails and says so once.
  await databases.reach();
  const wakeups = openWakeups({ connect: databases.connectDirectly, log, timings });
  parts.defer(() => wakeups.close());
  const publishes = options.services.flatMap((service) => service.publishes);
  const eventLog = await openEventLog({ settings, databases, wakeups, publishes, logger: log, metrics, timings, onLost: options.onLost });
  parts.defer(() => eventLog.close());

  const broker = await openTaskBroker({ settings, logger: log, metrics, timings });
  parts.defer(() => broker?.close());

  const kv = await openKeyValueStore({
    settings,
    databases,
    services: options.services,
    hasEdge: options.edge !== undefined,
    log,
    metrics,
  });
  parts.defer(() => kv?.close());

  const secret = await deploymentSecret({ fromSetting: settings.secret, folder: settings.dataFolder });
  const secrets = secretsOf(settings.secretAlso === undefined ? [secret] : [secret, settings.secretAlso]);
  const tokens = callerTokens({ secrets, clock });
  const tls = await openGrpcTls(settings.grpcTls, log);
  parts.defer(() => tls?.close());
  // Closed after all who call.
  const peers = openPeers({ settings, tokens, tls, log, metrics });
  parts.defer(() => peers.close());
  const { transportFor } = peers;

  const surroundings = { log, metrics, tracer, clock, timings, wakeups, eventLog, kv: kv?.store, broker, works, transportFor };
  const opening = options.services.map(async (definition) => {
    const database = await databases.open(definition.name, migrationsOf(definition));
    parts.defer(() => database.close());
    const ground = { settings: settings.own, database, secrets, clock, log: log.child({ service: definition.name }), metrics };
    const resources = await openResources(definition, ground);
    parts.defer(() => resources.close());
    return hostService(definition, { database, use: resources.use }, surroundings);
  });
  // Where one fails, the others are waited for: what they open is among the parts, and closed with them.
  await Promise.allSettled(opening);
  const hosted = await Promise.all(opening);
  for (const { endpoint } of hosted) peers.host(endpoint.service, endpoint);
  await eventLog.ensureTopics(topicsOf(eventsOf(options.services)));
  // At once: an event log that doesn't answer holds up each of them.
  parts.defer(async () => void (await Promise.all(hosted.map((service) => service.end()))));
  for (const service of hosted) await service.begin();

  if (!isWhole) warnAboutPeers(options);
  const clientFor =
    (caller: Caller): Peers =>
    (service) =>
      createClient(service, transportFor(service), { caller });
  const edge = options.edge && (await openEdge(options.edge, { ...options, clock, metrics, clientFor }));
  parts.defer(() => edge?.close());
  const protection = options.edge && (await protectEdge(options.edge, { ...options, clock, metrics, kv: kv?.store }));
  parts.defer(() => protection?.close());
  const grpc = await startGrpc(hosted, { tokens, tls }, settings);
  let http: Awaited<ReturnType<typeof startHttp>> | undefined;
  // Both at once: each waits for what it has taken in.
  parts.defer(async () => void (await Promise.all([http?.close(), grpc?.close()])));
  http = await startHttp({
    identity: edge?.identity,
    protection,
    contracts: system.services.map(({ contract }) => contract),
    info: { title: system.title, version: release },
    parts: [...hosted.map(({ database }) => databasePart(database)), ...(kv?.parts ?? []), ...(edge?.parts ?? [])],
    settings,
    transportFor,
    log,
    metrics,
    tracer,
  });

  const running = parts.move();
  return {
    urls: { http: http.url, grpc: grpc && `${settings.host}:${grpc.port}` },
    database: databases.description,
    tokens,
    services: hosted,
    clientFor,
    stop: () => running.disposeAsync(),
  };
}

/** What a process that shares its work with others likely wants, and doesn't have. */
function warnAboutPeers({ services, settings, log }: ProcessOptions): void {
  if (services.length > 0 && settings.grpcPort === undefined)
    log.warn("no gRPC is served, so that no other process can call these services: --grpc-port or GRPC_PORT");
  if (settings.secret === undefined)
    log.warn("POLIS_SECRET isn't set: one was made in the data folder, and processes elsewhere won't take this one's word, nor it theirs");
}

type EdgeTools = Pick<ProcessOptions, "settings" | "log"> & {
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly clientFor: (caller: Caller) => Peers;
};

const openEdge = async (edge: EdgeDefinition, { settings, log, clock, metrics, clientFor }: EdgeTools): Promise<OpenEdge> =>
  edge.open({
    settings: settings.own[edge.name],
    host: settings.host,
    peer: clientFor(serviceCaller(edge.name)),
    clock,
    log: log.child({ service: edge.name }),
    metrics,
  });

type ProtectionTools = Pick<ProcessOptions, "settings" | "system" | "log"> & {
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly kv: Kv | undefined;
};

const protectEdge = async ({ name }: EdgeDefinition, { settings, system, log, clock, metrics, kv }: ProtectionTools): Promise<Protection> =>
  openProtection(
    settings.own[protectionOf(name)] as EdgeSettings,
    system.services.flatMap(({ contract }) => contract.methods),
    { edge: name, kv: requireKv(kv), clock, log: log.child({ service: name }), metrics },
  );

async function startGrpc(
  hosted: readonly HostedService[],
  access: { readonly tokens: CallerTokens; readonly tls: GrpcTls | undefined },
  { host, grpcPort: port }: PlatformSettings,
): Promise<GrpcServer | undefined> {
  if (port === undefined) return undefined;
  const endpoints = hosted.map(({ endpoint }) => endpoint);
  return listenAt({ host, port, portSettings: "--grpc-port or GRPC_PORT" }, () => startGrpcServer({ endpoints, ...access, host, port }));
}
