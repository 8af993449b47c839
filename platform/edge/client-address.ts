import type { IncomingMessage } from "node:http";
import { inNetworks, readAddress } from "./networks.ts";

/** Hops of X-Forwarded-For that are looked at, from the right. */
const HOPS_MAX = 20;

export type ClientAddress = (request: Pick<IncomingMessage, "socket" | "headers">) => string;

/**
 * The address of who sends a request: the one of its connection; or where that is a proxy which is trusted, the right-most of
 * X-Forwarded-For that isn't: what is left of that, a client may have made up.
 *
 * @param proxies networks of the proxies that are trusted
 */
export function clientAddress(proxies: readonly string[]): ClientAddress {
  const isTrusted = inNetworks(proxies);
  return ({ socket, headers }) => {
    const { remoteAddress = "" } = socket;
    const peer = remoteAddress.includes(":") ? (readAddress(remoteAddress) ?? remoteAddress) : remoteAddress;
    if (proxies.length === 0 || !isTrusted(peer)) return peer;
    const said = headers["x-forwarded-for"];
    const hops = (Array.isArray(said) ? said.join(",") : (said ?? "")).split(",").slice(-HOPS_MAX).reverse();
    let nearest = peer;
    for (const hop of hops) {
      const address = readAddress(withoutPort(hop.trim()));
      // What can't be read was written by the last that could, or it came from it.
      if (address === undefined) return nearest;
      nearest = address;
      if (!isTrusted(address)) return address;
    }
    return nearest;
  };
}

/** Some proxies add the port. */
const withoutPort = (hop: string): string => /^\[(.+)\](?::\d+)?$/.exec(hop)?.[1] ?? /^(\d+\.\d+\.\d+\.\d+):\d+$/.exec(hop)?.[1] ?? hop;
