import type { DescService } from "@bufbuild/protobuf";
import type { CallerTokens } from "#platform/access/caller-token.ts";
import type { PlatformSettings } from "#platform/config/platform-settings.ts";
import { serviceName } from "#platform/contract/method-options.ts";
import type { GrpcTls } from "#platform/rpc/grpc-tls.ts";
import { type GrpcTransport, grpcTransport } from "#platform/rpc/grpc-transport.ts";
import { guardedPeer } from "#platform/rpc/guarded-peer.ts";
import type { Transport } from "#platform/rpc/transport.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

export type PeersOptions = {
  readonly settings: PlatformSettings;
  readonly tokens: CallerTokens;
  readonly tls: GrpcTls | undefined;
  readonly log: Log;
  readonly metrics: Metrics;
};

/** The ways to all services of the system, hosted here or elsewhere. */
export type PeerTransports = {
  /** From now on the service is called in this process. */
  host(service: DescService, transport: Transport): void;
  /** The way to a service, made when first asked for. Throws where no setting says where it answers. */
  transportFor(service: DescService): Transport;
  /** Ends connections. */
  close(): void;
};

export function openPeers({ settings, tokens, tls, log, metrics }: PeersOptions): PeerTransports {
  const transports = new Map<string, Transport>();
  const remotes: GrpcTransport[] = [];
  return {
    host: ({ typeName }, transport) => void transports.set(typeName, transport),
    transportFor(service) {
      const known = transports.get(service.typeName);
      if (known !== undefined) return known;
      const name = serviceName(service);
      const addresses = settings.addressesOf[name];
      if (addresses === undefined) throw new Error(`no setting says where ${name} answers`);
      const remote = grpcTransport({ addresses, tokens, tls });
      remotes.push(remote);
      const guarded = guardedPeer(remote, { name, metrics, log });
      transports.set(service.typeName, guarded);
      return guarded;
    },
    close() {
      for (const remote of remotes) remote.close();
    },
  };
}
