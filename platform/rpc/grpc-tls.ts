import { checkServerIdentity, rootCertificates } from "node:tls";
import { isDeepStrictEqual } from "node:util";
import { type ChannelCredentials, experimental, type ServerCredentials } from "@grpc/grpc-js";
import { type Certificates, readCertificates } from "#platform/config/certificates.ts";
import type { PlatformSettings } from "#platform/config/platform-settings.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** How often the files are looked at: certificates are changed without a stop. */
const LOOK_EVERY_MS = 10_000;

export type GrpcTls = {
  /** For who listens. */
  server(): ServerCredentials;
  /** For who calls a peer at these addresses. Its certificate must name one of their hosts. */
  channel(addresses: readonly string[]): ChannelCredentials;
  close(): void;
};

/**
 * TLS as the settings have it; undefined where gRPC is plain. New connections go by what the files hold then; those that are
 * there live on until their age ends them. Throws, naming the setting, where a file is missing, or key and certificate don't
 * belong together.
 */
export async function openGrpcTls(
  settings: PlatformSettings["grpcTls"],
  log: Log,
  everyMs: number = LOOK_EVERY_MS,
): Promise<GrpcTls | undefined> {
  const { mode, certFile, caFile } = settings;
  if (mode === "off") {
    if (certFile !== undefined || caFile !== undefined) throw new Error("certificates are given for gRPC, but GRPC_TLS is off");
    return undefined;
  }
  const isMutual = mode === "mutual";
  if (isMutual && (certFile === undefined || caFile === undefined))
    throw new Error("GRPC_TLS is mutual, which needs GRPC_CERT_FILE, GRPC_KEY_FILE and GRPC_CA_FILE");
  const provider = new CertificateProvider(await readCertificates("GRPC", settings));
  const timer = setInterval(() => {
    readCertificates("GRPC", settings).then(
      (held) => {
        if (provider.update(held)) log.info("the certificates of gRPC were changed");
      },
      (error: unknown) => log.error({ err: error }, "the certificates of gRPC can't be read; those from before stay"),
    );
  }, everyMs);
  timer.unref();
  return {
    server() {
      if (certFile === undefined) throw new Error(`GRPC_TLS is ${mode}: a process that serves gRPC needs GRPC_CERT_FILE and GRPC_KEY_FILE`);
      // Which argument is which differs between the library's types and its code; ours gives both.
      return experimental.createCertificateProviderServerCredentials(provider, (isMutual ? provider : null) as typeof provider, isMutual);
    },
    channel(addresses) {
      const hosts = addresses.map((address) => address.slice(0, address.lastIndexOf(":")).replace(/^\[|\]$/g, ""));
      return experimental.createCertificateProviderChannelCredentials(provider, certFile === undefined ? null : provider, {
        // The library asks for the first address of a list alone.
        checkServerIdentity(_, certificate) {
          const faults = hosts.map((host) => checkServerIdentity(host, certificate));
          return faults.includes(undefined) ? undefined : faults[0];
        },
      });
    },
    close: () => clearInterval(timer),
  };
}

/** The present certificates, for grpc-js, which asks to be told of changes. */
class CertificateProvider implements experimental.CertificateProvider {
  #held: Certificates;
  readonly #pairs = new Set<experimental.IdentityCertificateUpdateListener>();
  readonly #authorities = new Set<experimental.CaCertificateUpdateListener>();

  constructor(held: Certificates) {
    this.#held = held;
  }

  /** False where nothing is new. */
  update(held: Certificates): boolean {
    if (isDeepStrictEqual(held, this.#held)) return false;
    this.#held = held;
    for (const listener of this.#authorities) this.#tellAuthorities(listener);
    for (const listener of this.#pairs) this.#tellPair(listener);
    return true;
  }

  addCaCertificateListener(listener: experimental.CaCertificateUpdateListener): void {
    this.#authorities.add(listener);
    // Not at once: it is added before it is ready.
    process.nextTick(() => this.#tellAuthorities(listener));
  }

  removeCaCertificateListener(listener: experimental.CaCertificateUpdateListener): void {
    this.#authorities.delete(listener);
  }

  addIdentityCertificateListener(listener: experimental.IdentityCertificateUpdateListener): void {
    this.#pairs.add(listener);
    process.nextTick(() => this.#tellPair(listener));
  }

  removeIdentityCertificateListener(listener: experimental.IdentityCertificateUpdateListener): void {
    this.#pairs.delete(listener);
  }

  #tellAuthorities(listener: experimental.CaCertificateUpdateListener): void {
    listener({ caCertificate: Buffer.from(this.#held.ca ?? rootCertificates.join("\n")) });
  }

  #tellPair(listener: experimental.IdentityCertificateUpdateListener): void {
    const { cert, key } = this.#held;
    if (cert === undefined || key === undefined) listener(null);
    else listener({ certificate: Buffer.from(cert), privateKey: Buffer.from(key) });
  }
}
