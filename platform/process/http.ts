import type { DescService } from "@bufbuild/protobuf";
import type { PlatformSettings } from "#platform/config/platform-settings.ts";
import type { Database } from "#platform/postgres/database.ts";
import { listenAt } from "#platform/process/listen.ts";
import { headerIdentity } from "#platform/rest/identity.ts";
import { createRestServer } from "#platform/rest/server.ts";
import type { Transport } from "#platform/rpc/transport.ts";
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
    transportFor,
    info,
    log,
    metrics,
    tracer,
    health: { live: () => true, ready: async () => readiness(closing, databases) },
  });
  const { host, port } = settings;
  const url = await listenAt({ host, port, portSettings: "--port or PORT" }, () => server.listen(port, host));
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
