import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { experimental, Metadata, status } from "@grpc/grpc-js";

// grpc-js resolves one name and looks it up again only after a failure; and lists may only hold addresses. Peers here are
// lists of names (`orders-1:50051,orders-2:50051`), and a name may stand for several addresses that come and go, so names
// are looked up again while all is well.

const SCHEME = "polis";
const LOOKUP_EVERY_MS = 10_000;
const LOOKUP_PAUSE_MS_MIN = 1_000;

export type HostPort = { readonly host: string; readonly port: number };

/** Reads `host:port`, `[::1]:port`; throws for anything else. */
function parseAddress(text: string): HostPort {
  const parsed = experimental.splitHostPort(text.trim());
  if (parsed?.port === undefined) throw new Error(`not an address of the form host:port: ${text}`);
  return { host: parsed.host, port: parsed.port };
}

/** The target for grpc-js that stands for all of the addresses. */
export function targetOf(addresses: readonly string[]): string {
  register();
  if (addresses.length === 0) throw new Error("a peer has at least one address");
  addresses.forEach(parseAddress);
  return `${SCHEME}:${addresses.map((address) => address.trim()).join(",")}`;
}

let registered = false;

function register(): void {
  if (registered) return;
  registered = true;
  experimental.registerResolver(SCHEME, NamesResolver);
}

class NamesResolver implements experimental.Resolver {
  readonly #peers: readonly HostPort[];
  readonly #listener: experimental.ResolverListener;
  #timer: NodeJS.Timeout | undefined;
  #lookedUpMs = 0;
  #busy = false;
  #destroyed = false;

  constructor(target: experimental.GrpcUri, listener: experimental.ResolverListener) {
    this.#peers = target.path.split(",").map(parseAddress);
    this.#listener = listener;
  }

  updateResolution(): void {
    this.#destroyed = false;
    if (this.#busy) return;
    this.#schedule(Math.max(0, this.#lookedUpMs + LOOKUP_PAUSE_MS_MIN - Date.now()));
  }

  destroy(): void {
    this.#destroyed = true;
    clearTimeout(this.#timer);
  }

  static getDefaultAuthority(target: experimental.GrpcUri): string {
    return target.path.split(",")[0] ?? "";
  }

  #schedule(pauseMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#lookUp(), pauseMs);
    // A healthy channel doesn't keep the process alive; a call that waits for its first lookup has a deadline that does.
    this.#timer.unref();
  }

  async #lookUp(): Promise<void> {
    this.#busy = true;
    this.#lookedUpMs = Date.now();
    const found = await Promise.all(this.#peers.map(addressesOf));
    this.#busy = false;
    if (this.#destroyed) return;
    const endpoints = found.flat().map((address) => ({ addresses: [address] }));
    const names = this.#peers.map(({ host, port }) => `${host}:${port}`).join(", ");
    // One name that isn't known doesn't count while another one is.
    this.#listener(
      endpoints.length > 0
        ? experimental.statusOrFromValue(endpoints)
        : experimental.statusOrFromError({ code: status.UNAVAILABLE, details: `none of ${names} is known`, metadata: new Metadata() }),
      {},
      null,
      "",
    );
    this.#schedule(LOOKUP_EVERY_MS);
  }
}

async function addressesOf({ host, port }: HostPort): Promise<{ host: string; port: number }[]> {
  if (isIP(host) !== 0) return [{ host, port }];
  try {
    const found = await lookup(host, { all: true });
    return found.map(({ address }) => ({ host: address, port }));
  } catch {
    return [];
  }
}
