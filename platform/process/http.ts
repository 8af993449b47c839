import type { DescService } from "@bufbuild/protobuf";
import type { PlatformSettings } from "#platform/config/platform-settings.ts";
import type { Protection } from "#platform/edge/protection.ts";
import { listenAt } from "#platform/process/listen.ts";
import { type Part, readinessOf } from "#platform/process/readiness.ts";
import { headerIdentity, type Identity } from "#platform/rest/identity.ts";
import { createRestServer } from "#platform/rest/server.ts";
import type { Transport } from "#platform/rpc/transport.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";
import type { Tracer } from "#platform/telemetry/tracing.ts";

/** The HTTP of a process: the contracts' REST where it is a gateway, health and metrics in every one. */
export async function startHttp(options: {
  /** Who calls; undefined where the process is no way in. */
  readonly identity: Identity | undefined;
  readonly protection: Protection | undefined;
  readonly contracts: readonly DescService[];
  readonly info: { readonly title: string; readonly version: string };
  /** What has to be reached for the process to be ready. */
  readonly parts: readonly Part[];
  readonly settings: PlatformSettings;
  readonly transportFor: (service: DescService) => Transport;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
}): Promise<{ readonly url: string; close(): Promise<void> }> {
  const { identity, protection, contracts, info, parts, settings, transportFor, log, metrics, tracer } = options;
  const reached = readinessOf(parts);
  let closing = false;
  const server = createRestServer({
    services: identity === undefined ? [] : contracts,
    identity: identity ?? headerIdentity,
    protection,
    transportFor,
    info,
    log,
    metrics,
    tracer,
    health: {
      live: () => true,
      async ready() {
        const { ready, checks } = await reached();
        return { ready: ready && !closing, checks };
      },
    },
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
