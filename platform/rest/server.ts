import { METHODS } from "node:http";
import type { AddressInfo } from "node:net";
import type { DescService } from "@bufbuild/protobuf";
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from "fastify";
import { uuidv7 } from "#platform/ids.ts";
import { serveDocs } from "#platform/rest/docs-page.ts";
import type { Edge, Matched } from "#platform/rest/edge.ts";
import type { Identity } from "#platform/rest/identity.ts";
import type { Invoke } from "#platform/rest/invoke.ts";
import { registryOf } from "#platform/rest/json.ts";
import { openApi } from "#platform/rest/openapi.ts";
import { matchPath, routerPath } from "#platform/rest/path-template.ts";
import { HttpFault, httpFault, problemAnswer } from "#platform/rest/problem.ts";
import { type Binding, readBindings } from "#platform/rest/routes.ts";
import { answerClientError } from "#platform/rest/socket-errors.ts";
import { serveClientStream, serveServerStream } from "#platform/rest/streams.ts";
import { passTraceOn, type StartSpan } from "#platform/rest/trace.ts";
import { serveUnary } from "#platform/rest/unary.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

export type RestServerOptions = {
  /** Whose google.api.http rules are served. */
  readonly services: readonly DescService[];
  readonly invoke: Invoke;
  readonly identity: Identity;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly health: Health;
  /** What the OpenAPI document says of itself. */
  readonly info: { readonly title: string; readonly version: string; readonly description?: string };
  readonly startSpan?: StartSpan;
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

export type Health = {
  /** Whether the process is to be kept. */
  live(): boolean;
  /** Whether requests may be sent here; `checks` tells of each part. */
  ready(): Promise<{ ready: boolean; checks: Readonly<Record<string, unknown>> }>;
};

export type RestServer = {
  /** Gives the URL. Port 0 takes any that is free. */
  listen(port: number, host: string): Promise<string>;
  /** Takes no more connections, ends streams, waits for what is being answered. */
  close(): Promise<void>;
  readonly url: string | undefined;
};

const SECURITY_HEADERS = {
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
  // For answers that a browser shows as a page: files that users sent among them.
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
};

/** The HTTP edge of the services, made from their contracts. Throws, with every fault named, where these don't hold. */
export function createRestServer(options: RestServerOptions): RestServer {
  const { services, identity, log, metrics, drainMs = 15_000, requestTimeoutMs = 300_000 } = options;
  const bindings = readBindings(services);
  const edge: Edge = {
    invoke: options.invoke,
    identity,
    registry: registryOf(services),
    startSpan: options.startSpan ?? passTraceOn,
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
    frameworkErrors: (_error, request, reply) => {
      reply.headers({ ...SECURITY_HEADERS, "x-request-id": request.id });
      sendProblem(httpFault("malformed_url"), request, reply, identity.challenge);
    },
  });
  server.decorateRequest("span", undefined);
  server.decorateRequest("route", "none");
  addHooks(server, log, metrics);
  server.setErrorHandler((error, request, reply) => {
    const told = fromFastify(error, edge.bodyLimitBytes);
    logFault(told, request, log);
    request.span?.end({ httpStatus: problemAnswer(told, request.id, "").status, error: told });
    request.span = undefined;
    return sendProblem(told, request, reply, identity.challenge);
  });
  server.setNotFoundHandler((request, reply) => sendProblem(unroutable(request, bindings), request, reply, identity.challenge));
  serveOwnPaths(server, options, bindings);
  serveBindings(server, edge, bindings);

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
        stream.abort(new CallError("UNAVAILABLE", "shutting_down", "The server is being stopped: connect again.", { retryAfterMs: 1000 }));
      const cut = setTimeout(() => server.server.closeAllConnections(), drainMs);
      await server.close();
      clearTimeout(cut);
    },
    get url() {
      return url;
    },
  };
}

const requestId = (said: string | string[] | undefined): string =>
  typeof said === "string" && /^[A-Za-z0-9][\w.:@+/=-]{0,127}$/.test(said) ? said : uuidv7();

function addHooks(server: FastifyInstance, log: Log, metrics: Metrics): void {
  const durations = metrics.histogram("polis_http_request_duration_seconds", "Time from a request's head to the end of its answer.", [
    "method",
    "route",
    "status",
  ]);
  // Finding a metric by its labels costs more than what it then does.
  const series = new Map<string, { observe(seconds: number): void }>();
  const answered = (request: FastifyRequest, reply: FastifyReply) => {
    const { id: requestId, method } = request;
    // What isn't a method's has the address that it was registered under.
    const route = request.route === "none" ? (request.routeOptions.url ?? "none") : request.route;
    // 499: the client had gone before its answer was complete.
    const status = reply.raw.writableFinished ? reply.statusCode : 499;
    request.span?.end({ httpStatus: status, error: undefined });
    const key = `${method} ${status} ${route}`;
    let duration = series.get(key);
    if (duration === undefined) {
      duration = durations.labels(method, route, String(status));
      series.set(key, duration);
    }
    const ms = reply.elapsedTime;
    duration.observe(ms / 1000);
    log.debug({ requestId, method, route, status, ms }, "answered");
  };
  server.addHook("onRequest", (request, reply, done) => {
    reply.headers(SECURITY_HEADERS);
    reply.header("x-request-id", request.id);
    // Fastify's onResponse doesn't come where the client has gone before its answer began.
    reply.raw.once("close", () => answered(request, reply));
    done();
  });
}

function logFault(error: unknown, request: FastifyRequest, log: Log): void {
  if (error instanceof HttpFault) return;
  const call = CallError.from(error);
  if (call.status !== "INTERNAL") return;
  log.error(
    { requestId: request.id, method: request.method, route: request.route, code: call.code, err: call.cause ?? call },
    "a request failed by our fault",
  );
}

function sendProblem(error: unknown, request: FastifyRequest, reply: FastifyReply, challenge: string): FastifyReply {
  const { status, headers, problem } = problemAnswer(error, request.id, challenge);
  // A body that was not read can't be told from the next request.
  if (status === 413) headers.connection = "close";
  for (const name of ["etag", "vary"]) reply.removeHeader(name);
  return reply.code(status).headers(headers).send(JSON.stringify(problem));
}

/** What Fastify refuses while it reads a body, in our words. */
function fromFastify(error: unknown, bodyLimitBytes: number): unknown {
  switch ((error as { code?: unknown }).code) {
    case "FST_ERR_CTP_BODY_TOO_LARGE":
      return httpFault("body_too_large", `The body is over ${bodyLimitBytes} bytes.`);
    case "FST_ERR_CTP_INVALID_MEDIA_TYPE":
      return httpFault("unsupported_media_type", "The body must be application/json, in UTF-8.");
    case "FST_ERR_CTP_INVALID_CONTENT_LENGTH":
      return httpFault("malformed_request", "The body's length is not what Content-Length says.");
    default:
      return error instanceof URIError ? httpFault("malformed_url") : error;
  }
}

function unroutable(request: FastifyRequest, bindings: readonly Binding[]): HttpFault {
  const { rawPath } = splitUrl(request.raw.url ?? "/");
  const allowed = new Set<string>();
  for (const { template, httpMethod, method } of bindings) {
    if (matchPath(template, rawPath) === undefined) continue;
    allowed.add(httpMethod);
    if (httpMethod === "GET" && method.methodKind === "unary") allowed.add("HEAD");
  }
  if (
    /^\/(?:healthz|readyz|metrics|swagger\/doc\.json|docs(?:\/.*)?)?$/.test(rawPath) &&
    request.method !== "GET" &&
    request.method !== "HEAD"
  ) {
    allowed.add("GET");
    allowed.add("HEAD");
  }
  if (allowed.size === 0 || allowed.has(request.method)) return httpFault("route_not_found");
  return httpFault("method_not_allowed", undefined, { allow: [...allowed].sort().join(", ") });
}

function splitUrl(url: string): { rawPath: string; rawQuery: string } {
  // The absolute form (`GET http://host/path`) is for proxies and allowed to all.
  const relative = url.startsWith("/") ? url : url.replace(/^[a-z]+:\/\/[^/?#]*/i, "");
  const hash = relative.indexOf("#");
  const whole = hash === -1 ? relative : relative.slice(0, hash);
  const at = whole.indexOf("?");
  return at === -1 ? { rawPath: whole || "/", rawQuery: "" } : { rawPath: whole.slice(0, at) || "/", rawQuery: whole.slice(at + 1) };
}

function serveOwnPaths(
  server: FastifyInstance,
  { health, metrics, info, services, identity }: RestServerOptions,
  bindings: readonly Binding[],
): void {
  const noStore = (reply: FastifyReply) => reply.header("cache-control", "no-store");
  server.get("/", (request, reply) =>
    request.headers.accept?.includes("text/html") === true
      ? reply.redirect("/docs")
      : noStore(reply).send({ title: info.title, version: info.version, docs: "/docs", openapi: "/swagger/doc.json" }),
  );
  server.get("/healthz", (_request, reply) => {
    const isLive = health.live();
    return noStore(reply)
      .code(isLive ? 200 : 503)
      .send({ status: isLive ? "ok" : "failing" });
  });
  server.get("/readyz", async (_request, reply) => {
    const { ready, checks } = await health.ready();
    return noStore(reply)
      .code(ready ? 200 : 503)
      .send({ ready, checks });
  });
  server.get("/metrics", async (_request, reply) =>
    noStore(reply)
      .type(metrics.contentType)
      .send(await metrics.text()),
  );
  let document: string | undefined;
  server.get("/swagger/doc.json", (_request, reply) => {
    document ??= JSON.stringify(openApi({ bindings, services, info, identity }));
    return reply.header("cache-control", "no-cache").type("application/json").send(document);
  });
  serveDocs(server, info.title);
}

/** Bodies are read in three ways, each of which is a scope of Fastify's with its own parser. */
function serveBindings(server: FastifyInstance, edge: Edge, bindings: readonly Binding[]): void {
  const isStream = ({ method }: Binding) => method.methodKind === "client_streaming";
  const scopes = [
    { takes: (binding: Binding) => !isStream(binding) && !binding.rawRequest, type: "application/json", read: "whole" },
    { takes: (binding: Binding) => !isStream(binding) && binding.rawRequest, type: "*", read: "whole" },
    { takes: isStream, type: "*", read: "stream" },
  ] as const;
  for (const { takes, type, read } of scopes) {
    const groups = groupByRoute(bindings.filter(takes));
    server.register((scope, _options, done) => {
      scope.removeAllContentTypeParsers();
      if (read === "stream") scope.addContentTypeParser(type, (_request, payload, parsed) => parsed(null, payload));
      else
        scope.addContentTypeParser(type, { parseAs: "buffer" }, (request, body, parsed) => {
          const fault = type === "*" ? undefined : encodingFault(request);
          if (fault === undefined) parsed(null, body);
          else parsed(fault);
        });
      for (const group of groups) serveGroup(scope, edge, group);
      done();
    });
  }
}

function encodingFault({ headers }: FastifyRequest): HttpFault | undefined {
  if (headers["content-encoding"] !== undefined && headers["content-encoding"] !== "identity")
    return httpFault("unsupported_media_type", "A body with a Content-Encoding is not read here.");
  const charset = /;\s*charset\s*=\s*"?([^";\s]+)/i.exec(headers["content-type"] ?? "")?.[1];
  return charset === undefined || /^utf-?8$/i.test(charset) ? undefined : httpFault("unsupported_media_type", "The body must be in UTF-8.");
}

type RouteGroup = { readonly httpMethod: string; readonly path: string; readonly bindings: Binding[] };

/** Bindings that differ by their verb alone share a route of Fastify's; those with a verb are tried first. */
function groupByRoute(bindings: readonly Binding[]): RouteGroup[] {
  const groups = new Map<string, RouteGroup>();
  for (const binding of bindings) {
    const path = routerPath(binding.template);
    const key = `${binding.httpMethod} ${path}`;
    const group = groups.get(key) ?? { httpMethod: binding.httpMethod, path, bindings: [] };
    groups.set(key, group);
    if (binding.template.verb === undefined) group.bindings.push(binding);
    else group.bindings.unshift(binding);
  }
  return [...groups.values()];
}

function serveGroup(scope: FastifyInstance, edge: Edge, { httpMethod, path, bindings }: RouteGroup): void {
  const methods = httpMethod === "*" ? scope.supportedMethods : [httpMethod];
  for (const method of methods) {
    if (!METHODS.includes(method)) throw new Error(`${method} ${path}: Node's HTTP knows no such method`);
    if (!scope.supportedMethods.includes(method)) scope.addHttpMethod(method, { hasBody: true });
  }
  const route = bindings.at(-1)?.template.text ?? path;
  scope.route({
    method: methods,
    url: path,
    exposeHeadRoute: bindings.every(({ method }) => method.methodKind === "unary"),
    onRequest: (request, _reply, done) => {
      request.route = route;
      done();
    },
    handler: (request, reply) => {
      const { rawPath, rawQuery } = splitUrl(request.raw.url ?? "/");
      for (const binding of bindings) {
        const pathValues = matchPath(binding.template, rawPath);
        if (pathValues === undefined) continue;
        request.route = binding.template.text;
        return serve(edge, { binding, pathValues, rawQuery }, request, reply);
      }
      return reply.callNotFound();
    },
  });
}

function serve(edge: Edge, matched: Matched, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  switch (matched.binding.method.methodKind) {
    case "server_streaming":
      return serveServerStream(edge, matched, request, reply);
    case "client_streaming":
      return serveClientStream(edge, matched, request, reply);
    default:
      return serveUnary(edge, matched, request, reply);
  }
}
