import type { DescService } from "@bufbuild/protobuf";
import type { PlatformSettings } from "#platform/config/platform-settings.ts";
import type { Database } from "#platform/postgres/database.ts";
import { headerIdentity } from "#platform/rest/identity.ts";
import type { Invoke } from "#platform/rest/invoke.ts";
import { createRestServer } from "#platform/rest/server.ts";
import { cancellableBy } from "#platform/rpc/cancellation.ts";
import type { Call, Transport } from "#platform/rpc/transport.ts";
import type { EdgeDefinition } from "#platform/service.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";
import type { Tracer } from "#platform/telemetry/tracing.ts";

const CHECK_TIMEOUT_MS = 2_000;

/** The HTTP of a process: the contracts' REST where it is a gateway, health and metrics in every one. */
export async function startHttp(options: {
  readonly edge: EdgeDefinition | undefined;
  readonly contracts: readonly DescService[];
  readonly info: { readonly title: string; readonly version: string };
  readonly databases: readonly Database[];
  readonly settings: PlatformSettings;
  readonly transportFor: (service: DescService) => Transport;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
}): Promise<{ readonly url: string; close(): Promise<void> }> {
  const { edge, contracts, info, databases, settings, transportFor, log, metrics, tracer } = options;
  let closing = false;
  const server = createRestServer({
    services: edge === undefined ? [] : contracts,
    identity: edge?.identity ?? headerIdentity,
    invoke: invokeOver(transportFor),
    info,
    log,
    metrics,
    startSpan: (name, parent) => tracer.start(name, parent),
    health: { live: () => true, ready: async () => readiness(closing, databases) },
  });
  const url = await server.listen(settings.port, settings.host);
  return {
    url,
    close: () => {
      closing = true;
      return server.close();
    },
  };
}

/** Ready is who takes no leave and reaches its databases. */
async function readiness(closing: boolean, databases: readonly Database[]) {
  const checks = await Promise.all(databases.map(async (database) => [database.name, await reaches(database)] as const));
  return { ready: !closing && checks.every(([, state]) => state === "ok"), checks: Object.fromEntries(checks) };
}

async function reaches(database: Database): Promise<"ok" | "unreachable"> {
  const late = new Promise<"unreachable">((resolve) => setTimeout(() => resolve("unreachable"), CHECK_TIMEOUT_MS).unref());
  const asked = database.query({ text: "SELECT 1" }).then(
    () => "ok" as const,
    () => "unreachable" as const,
  );
  return Promise.race([asked, late]);
}

const invokeOver = (transportFor: (service: DescService) => Transport): Invoke => ({
  unary: (method, request, call) => transportFor(method.parent).unary(method, request, callOf(call)),
  serverStream: (method, request, call) => transportFor(method.parent).serverStreaming(method, request, callOf(call)),
  clientStream: (method, requests, call) => transportFor(method.parent).clientStreaming(method, requests, callOf(call)),
});

const callOf = ({ caller, idempotencyKey, traceparent, timeoutMs, signal }: Parameters<Invoke["unary"]>[2]): Call => ({
  caller,
  deadlineMs: Date.now() + timeoutMs,
  cancellation: cancellableBy(signal),
  traceparent,
  idempotencyKey,
});
