import { join } from "node:path";
import type { DescService } from "@bufbuild/protobuf";
import { afterAll, expect, onTestFinished } from "vitest";
import type { Caller } from "#platform/access/caller.ts";
import { callerTokens } from "#platform/access/caller-token.ts";
import { secretsOf } from "#platform/access/secrets.ts";
import { systemClock } from "#platform/clock.ts";
import type { PlatformSettings } from "#platform/config/platform-settings.ts";
import { readSettings } from "#platform/config/settings.ts";
import { serviceName } from "#platform/contract/method-options.ts";
import type { EventTimings } from "#platform/events/timings.ts";
import { testLog } from "#platform/postgres/database.testing.ts";
import { freePort } from "#platform/process/free-port.testing.ts";
import { settingsTableOf } from "#platform/process/own-settings.ts";
import { startProcess } from "#platform/process/start-process.ts";
import { createClient, type Peers } from "#platform/rpc/client.ts";
import { type GrpcTransport, grpcTransport } from "#platform/rpc/grpc-transport.ts";
import { release } from "../../cli/release.ts";
import { accessTokens, type SaidOfUser } from "../../services/auth/keys/access-tokens.testing.ts";
import { orderPayments } from "../../systems/order-payments.ts";
import { startPolisChild, WITHOUT_LIMITS } from "./polis-child.ts";
import { reachLog } from "./reach-log.ts";
import { type Rest, restOf } from "./rest-client.ts";
import { SECRET, type TestDatabases } from "./test-databases.ts";
import { until } from "./until.ts";

const SERVICES = orderPayments.services.map(({ name }) => name);

/** Whether what a test starts is a process a service, or one for all of them. */
export const isApart = process.env.TEST_LAYOUT === "apart";

export type TestPolis = {
  /** Where the gateway answers; where there is none, the process's own paths. */
  readonly http: string;
  /** REST as this user, by a token as auth signs it; without one, as nobody. */
  rest(userId?: string, said?: SaidOfUser): Rest;
  /** Clients of every service, in the process where they can be, and over gRPC. */
  clientFor(caller: Caller): Peers;
  grpcFor(caller: Caller): Peers;
  /** `host:port` of gRPC. Throws where it isn't one process that serves it all. */
  grpc(): string;
  stop(): Promise<void>;
};

export type TestPolisOptions = {
  /** Names of services that share a process within the test; all, with the gateway, unless said. */
  readonly services?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** For processes within the test. */
  readonly timings?: Partial<EventTimings>;
};

const settingsOf = (environment: Readonly<Record<string, string>>): PlatformSettings =>
  readSettings(environment, settingsTableOf(orderPayments.services, orderPayments.edges), { data: join(import.meta.dirname, "none") });

/** The event log of these databases beside the processes that use it, and its groups. Closed after the tests of the file. */
export async function reachTestLog({ environment }: Pick<TestDatabases, "environment">, timings?: Partial<EventTimings>) {
  const reached = await reachLog(environment, testLog, timings);
  afterAll(() => reached.close());
  return reached;
}

/**
 * The order payments on these databases, or some of their services. All of them are one process within the test; or, where
 * TEST_LAYOUT is `apart`, a process a service, as `polis start --services …` makes them. Stopped after the test, or the
 * tests of the file, unless it was before.
 */
export async function startTestPolis(databases: Databases, options: TestPolisOptions = {}): Promise<TestPolis> {
  const start = isApart && options.services === undefined ? startApart : startWithin;
  return stopped(await start(databases, options));
}

type Databases = Pick<TestDatabases, "environment" | "query">;

/** The same, always as a process a service. */
export const startApartPolis = async (databases: Databases, environment: Readonly<Record<string, string>> = {}): Promise<TestPolis> =>
  stopped(await startApart(databases, { environment }));

/** Stops it once: at the latest after the test that started it, or else after the tests of the file. */
function stopped(polis: TestPolis): TestPolis {
  let stopping: Promise<void> | undefined;
  const stop = () => (stopping ??= polis.stop());
  if (expect.getState().currentTestName === undefined) afterAll(stop);
  else onTestFinished(stop);
  return { ...polis, stop };
}

/** Where auth signs tokens, and the gateway takes them, REST is by these; where it takes the word of a proxy, by that. */
async function restAt(
  http: string,
  databases: Databases,
  { POLIS_IDENTITY = "token" }: Readonly<Record<string, string>>,
): Promise<TestPolis["rest"]> {
  if (POLIS_IDENTITY === "header") return (userId) => restOf(http, userId === undefined ? {} : { "x-user-id": userId });
  const tokenOf = await accessTokens((text) => databases.query("auth", text), databases.environment.POLIS_SECRET ?? "");
  return (userId, said) => restOf(http, userId === undefined ? {} : { authorization: `Bearer ${tokenOf(userId, said)}` });
}

async function startWithin(
  databases: Databases,
  { services: names = ["gateway", ...SERVICES], environment: more, timings }: TestPolisOptions,
): Promise<TestPolis> {
  // Without auth, nobody tells the gateway what tokens are good.
  const identity: Record<string, string> = names.includes("auth") ? {} : { POLIS_IDENTITY: "header" };
  const environment = { PORT: "0", GRPC_PORT: "0", ...WITHOUT_LIMITS, ...identity, ...databases.environment, ...more };
  const running = await startProcess({
    services: orderPayments.services.filter(({ name }) => names.includes(name)),
    edge: orderPayments.edges.find(({ name }) => names.includes(name)),
    system: orderPayments,
    settings: settingsOf(environment),
    environment,
    release,
    log: testLog,
    ...(timings === undefined ? {} : { timings }),
    onLost,
  });
  const { http } = running.urls;
  const grpc = (): string => running.urls.grpc ?? noSingleGrpc();
  const remote = remoteClients(grpc);
  return {
    http,
    rest: await restAt(http, databases, environment),
    clientFor: running.clientFor,
    grpcFor: remote.clientFor,
    grpc,
    async stop() {
      remote.close();
      await running.stop();
    },
  };
}

async function startApart(databases: Databases, { environment: more }: TestPolisOptions): Promise<TestPolis> {
  const said = { ...databases.environment, ...more };
  const addresses = new Map<string, string>();
  for (const service of SERVICES) addresses.set(service, `127.0.0.1:${await freePort()}`);
  const environment = {
    ...said,
    ...Object.fromEntries([...addresses].map(([service, address]) => [`${service.toUpperCase()}_URL`, address])),
  };
  const children = ["gateway", ...SERVICES].map((name) => {
    const port = addresses.get(name)?.split(":")[1] ?? "0";
    return startPolisChild(["--services", name, "--grpc-port", port], environment);
  });
  const remote = remoteClients((service) => addresses.get(service) as string);
  const stop = async (): Promise<void> => {
    remote.close();
    for (const child of children) if (child.isRunning()) child.signal("SIGTERM");
    await Promise.all(children.map(({ ended }) => ended));
  };
  try {
    const [gateway] = await Promise.all(children.map(({ ready }) => ready));
    const http = gateway?.http ?? "";
    // auth may be there later than the gateway, which has no keys then to verify tokens with.
    await until("the gateway's readiness", async () => (await fetch(`${http}/readyz`)).ok, { withinMs: 30_000 });
    const rest = await restAt(http, databases, said);
    return { http, rest, clientFor: remote.clientFor, grpcFor: remote.clientFor, grpc: noSingleGrpc, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Clients over gRPC, each service at its address. */
export function remoteClients(addressOf: (service: string) => string): { clientFor(caller: Caller): Peers; close(): void } {
  const tokens = callerTokens({ secrets: secretsOf([SECRET]), clock: systemClock });
  const transports = new Map<string, GrpcTransport>();
  const transportTo = (service: DescService): GrpcTransport => {
    const address = addressOf(serviceName(service));
    const transport = transports.get(address) ?? grpcTransport({ addresses: [address], tokens });
    transports.set(address, transport);
    return transport;
  };
  return {
    clientFor: (caller) => (service) => createClient(service, transportTo(service), { caller }),
    close() {
      for (const transport of transports.values()) transport.close();
    },
  };
}

function noSingleGrpc(): never {
  throw new Error("there is no process that serves all of gRPC");
}

function onLost(error: Error): never {
  throw error;
}
