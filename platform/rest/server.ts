import type { AddressInfo } from "node:net";
import type { DescService } from "@bufbuild/protobuf";
import { fastify } from "fastify";
import { clientAddress } from "#platform/edge/client-address.ts";
import type { Protection } from "#platform/edge/protection.ts";
import { uuidv7 } from "#platform/ids.ts";
import { answerErrors, sendProblem } from "#platform/rest/answer-errors.ts";
import { bindRoutes } from "#platform/rest/bind-routes.ts";
import { boundConnections } from "#platform/rest/bound-connections.ts";
import type { Edge } from "#platform/rest/edge.ts";
import type { Identity } from "#platform/rest/identity.ts";
import { registryOf } from "#platform/rest/json.ts";
import { observeRequests } from "#platform/rest/observe-requests.ts";
import { type Health, serveOwnPaths } from "#platform/rest/own-paths.ts";
import { httpFault } from "#platform/rest/problem.ts";
import { protect } from "#platform/rest/protect.ts";
import { readBindings } from "#platform/rest/routes.ts";
import { answerClientError } from "#platform/rest/socket-errors.ts";
import { askForBodies } from "#platform/rest/unread-bodies.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Transport } from "#platform/rpc/transport.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";
import type { Tracer } from "#platform/telemetry/tracing.ts";

export type RestServerOptions = {
  /** Whose google.api.http rules are served. */
  readonly services: readonly DescService[];
  /** The way to each of them, in this process or elsewhere. */
  readonly transportFor: (service: DescService) => Transport;
  readonly identity: Identity;
  /** Undefined where nothing is served but the process's own addresses. */
  readonly protection?: Protection | undefined;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
  readonly health: Health;
  /** What the OpenAPI document says of itself. */
  readonly info: { readonly title: string; readonly version: string; readonly description?: string };
  /** A body that is read whole, or a line of a stream: 1 MiB. */
  readonly bodyLimitBytes?: number;
  /** A streamed upload: 1 GiB. */
  readonly uploadLimitBytes?: number;
  /** How long a call may take where the client doesn't say: 10 s. */
  readonly timeoutMs?: number;
  /** How long a client may ask for: 60 s. */
  readonly timeoutMaxMs?: number;
  /** How long a stream may last: an hour. */
  readonly streamTimeoutMs?: number;
  /** How long a request may take to arrive: 5 min; its head: 15 s at the most. */
  readonly requestTimeoutMs?: number;
  /** How long `close` waits for what is being answered before it cuts connections: 15 s. */
  readonly drainMs?: number;
};

export type RestServer = {
  /** Gives the URL. Port 0 takes any that is free. */
  listen(port: number, host: string): Promise<string>;
  /** Takes no more connections, ends streams, waits for what is being answered. */
  close(): Promise<void>;
  readonly url: string | undefined;
};

/** The HTTP edge of the services, made from their contracts. Throws, with every fault named, where these don't hold. */
export function createRestServer(options: RestServerOptions): RestServer {
  const { services, identity, protection, log, metrics, tracer, transportFor, drainMs = 15_000, requestTimeoutMs = 300_000 } = options;
  const bindings = readBindings(services);
  const edge: Edge = {
    transportFor,
    identity,
    protection,
    registry: registryOf(services),
    tracer,
    timeoutMs: options.timeoutMs ?? 10_000,
    timeoutMaxMs: options.timeoutMaxMs ?? 60_000,
    streamTimeoutMs: options.streamTimeoutMs ?? 3_600_000,
    bodyLimitBytes: options.bodyLimitBytes ?? 1024 * 1024,
    uploadLimitBytes: options.uploadLimitBytes ?? 1024 ** 3,
    streams: new Set(),
  };
  const server = fastify({
    logger: false,
    bodyLimit: edge.bodyLimitBytes,
    genReqId: ({ headers }) => requestId(headers["x-request-id"]),
    routerOptions: { maxParamLength: 8192 },
    requestTimeout: requestTimeoutMs,
    // Requests that come on open connections while the server drains are still answered.
    return503OnClosing: false,
    forceCloseConnections: "idle",
    http: { headersTimeout: Math.min(15_000, requestTimeoutMs), connectionsCheckingInterval: Math.min(5_000, requestTimeoutMs) },
    clientErrorHandler: (error, socket) => answerClientError(error, socket, uuidv7()),
    // What the router refuses before a route is found; hooks don't run for it.
    frameworkErrors: (_error, request, reply) => void sendProblem(httpFault("malformed_url"), request, reply, identity.challenge),
  });
  observeRequests(server, { log, metrics, addressOf: protection?.addressOf ?? clientAddress([]) });
  boundConnections(server, metrics, protection);
  if (protection !== undefined) protect(server, protection, bindings);
  askForBodies(server);
  answerErrors(server, { edge, bindings, log });
  server.register(async (scope) => serveOwnPaths(scope, options, bindings));
  bindRoutes(server, edge, bindings);

  let url: string | undefined;
  return {
    async listen(port, host) {
      await server.listen({ port, host });
      const address = server.server.address() as AddressInfo;
      url = `http://${address.family === "IPv6" ? `[${address.address}]` : address.address}:${address.port}`;
      return url;
    },
    async close() {
      for (const stream of edge.streams)
        stream.giveUp(new CallError("UNAVAILABLE", "shutting_down", "The server is being stopped: connect again.", { retryAfterMs: 1000 }));
      // Node closes the connections that are idle now; those that still answer would stay until their clients end them.
      const sweep = setInterval(() => server.server.closeIdleConnections(), 20);
      const cut = setTimeout(() => server.server.closeAllConnections(), drainMs);
      await server.close();
      clearInterval(sweep);
      clearTimeout(cut);
    },
    get url() {
      return url;
    },
  };
}

const requestId = (said: string | string[] | undefined): string =>
  typeof said === "string" && /^[A-Za-z0-9][\w.:@+/=-]{0,127}$/.test(said) ? said : uuidv7();
