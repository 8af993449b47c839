import type { Socket } from "node:net";
import type { FastifyInstance } from "fastify";
import { boundByAddress } from "#platform/bound-by-address.ts";
import type { Protection } from "#platform/edge/protection.ts";
import { httpFault } from "#platform/rest/problem.ts";
import { boundUnread } from "#platform/rest/unread-bodies.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/** Connections of one process, unless said. */
const CONNECTIONS_MAX = 10_000;
/** Requests that one connection may have under way: HTTP/1.1 answers them in their order, so that more of them only wait. */
const UNDER_WAY_MAX = 100;

/** Bounds what one client can put upon a process: connections, requests that it sends without waiting for answers, and bodies that nobody reads. */
export function boundConnections(server: FastifyInstance, metrics: Metrics, protection: Protection | undefined): void {
  server.server.maxConnections = protection?.settings.connectionsMax ?? CONNECTIONS_MAX;
  const closed = metrics.counter("polis_connections_closed_total", "Connections that were closed at once, by what there were too many of", [
    "why",
  ]);
  for (const why of ["all", "address"]) closed.inc({ why }, 0);
  server.server.on("drop", () => closed.inc({ why: "all" }));
  if (protection !== undefined) {
    const { connectionsPerAddressMax: max } = protection.settings;
    boundByAddress(server.server, { max, isSpared: protection.isProxy, onClosed: () => closed.inc({ why: "address" }) });
  }
  const underWay = new WeakMap<Socket, number>();
  const count = (socket: Socket, change: number): number => {
    const now = (underWay.get(socket) ?? 0) + change;
    underWay.set(socket, now);
    return now;
  };
  server.addHook("onRequest", ({ raw }, reply, done) => {
    const { socket } = raw;
    reply.raw.once("close", () => {
      count(socket, -1);
      boundUnread(raw);
    });
    if (count(socket, 1) <= UNDER_WAY_MAX) return done();
    reply.header("connection", "close");
    done(httpFault("overloaded", `More than ${UNDER_WAY_MAX} requests are under way on this connection.`));
  });
}
