import type { Metadata } from "@grpc/grpc-js";

/** Where a call came from, as the edge saw it; for limits, for what a user is shown of sessions, and never for who may do what. */
export type Origin = {
  /** The client's IP address. */
  readonly address: string;
  /** What the client calls itself, at most 256 characters. */
  readonly userAgent: string;
};

const ADDRESS = "polis-origin-address";
const USER_AGENT = "polis-origin-agent";
const ADDRESS_LENGTH_MAX = 64;
export const USER_AGENT_LENGTH_MAX = 256;

/** Whoever may call over gRPC at all is inside, and believed. */
export function readOrigin(metadata: Metadata): Origin | undefined {
  const [address] = metadata.get(ADDRESS);
  if (typeof address !== "string" || address === "") return undefined;
  const [userAgent] = metadata.get(USER_AGENT);
  return {
    address: address.slice(0, ADDRESS_LENGTH_MAX),
    userAgent: typeof userAgent === "string" ? decoded(userAgent).slice(0, USER_AGENT_LENGTH_MAX) : "",
  };
}

export function writeOrigin(metadata: Metadata, { address, userAgent }: Origin): void {
  metadata.set(ADDRESS, address);
  metadata.set(USER_AGENT, encodeURIComponent(userAgent.toWellFormed()));
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}
