import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { answerHeaders } from "#platform/rest/answers.ts";
import { splitUrl } from "#platform/rest/bind-routes.ts";
import type { Edge } from "#platform/rest/edge.ts";
import { routeOf } from "#platform/rest/exchange.ts";
import { matchPath } from "#platform/rest/path-template.ts";
import { HttpFault, httpFault, problemAnswer } from "#platform/rest/problem.ts";
import { type Binding, isOwnPath } from "#platform/rest/routes.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { cancelled } from "#platform/rpc/served-call.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** Between two warnings that something is away. */
const AWAY_PAUSE_MS = 10_000;

type Tools = { readonly edge: Edge; readonly bindings: readonly Binding[]; readonly log: Log };

/** Answers what fails on its way, and what has no way, with a problem (RFC 9457). */
export function answerErrors(server: FastifyInstance, { edge, bindings, log }: Tools): void {
  const { challenge } = edge.identity;
  let toldOfAwayMs = Number.NEGATIVE_INFINITY;
  /** Once in a while: while a neighbour is away, each request that needs it fails. */
  const logAway = (fields: object): void => {
    const nowMs = performance.now();
    const isDue = nowMs - toldOfAwayMs > AWAY_PAUSE_MS;
    if (isDue) toldOfAwayMs = nowMs;
    log[isDue ? "warn" : "debug"](fields, "a request needed what is away");
  };
  server.setErrorHandler((error, request, reply) => {
    const isGone = error === request.raw.errored;
    const told = isGone ? cancelled() : fromFastify(error, edge.bodyLimitBytes);
    logFault(told, request, log, logAway);
    sendProblem(told, request, reply, challenge);
    if (reply.statusCode >= 500) request.exchange.fault = told;
    return reply;
  });
  server.setNotFoundHandler((request, reply) => sendProblem(unroutable(request, bindings), request, reply, challenge));
  // By the head alone: nothing of a body is read that has no way.
  server.addHook("onRequest", (request, _reply, done) => done(request.is404 ? unroutable(request, bindings) : undefined));
}

/** Any error as its answer. */
export function sendProblem(error: unknown, request: FastifyRequest, reply: FastifyReply, challenge: string): FastifyReply {
  const { status, headers, problem } = problemAnswer(error, request.id, challenge);
  // What is over the limit may come on without end.
  if (status === 413) headers.connection = "close";
  return reply
    .code(status)
    .headers({ ...answerHeaders(request), ...headers })
    .send(JSON.stringify(problem));
}

function logFault(error: unknown, request: FastifyRequest, log: Log, logAway: (fields: object) => void): void {
  if (error instanceof HttpFault) return;
  const { status, code, message, cause } = CallError.from(error);
  if (status !== "INTERNAL" && status !== "UNAVAILABLE") return;
  // By its trace the line is found in which a service, here or elsewhere, tells the cause.
  const traceparent = request.exchange.span?.traceparent;
  const about = { requestId: request.id, traceparent, method: request.method, route: routeOf(request), code };
  if (status === "INTERNAL") log.error({ ...about, err: cause ?? error }, "a request failed by our fault");
  else logAway({ ...about, err: cause, said: message });
}

/** What Fastify refuses while it reads a request, in our words. */
function fromFastify(error: unknown, bodyLimitBytes: number): unknown {
  const { code, statusCode } = error as { code?: unknown; statusCode?: unknown };
  if (code === "FST_ERR_CTP_BODY_TOO_LARGE") return httpFault("body_too_large", `The body is over ${bodyLimitBytes} bytes.`);
  if (error instanceof URIError) return httpFault("malformed_url");
  // A fault of ours has no status, or one of 500: what has another is the client's mistake, with a body as with its headers.
  if (typeof code !== "string" || !code.startsWith("FST_") || typeof statusCode !== "number" || statusCode >= 500) return error;
  return clientsMistake(code);
}

function clientsMistake(code: string): HttpFault {
  switch (code) {
    case "FST_ERR_CTP_INVALID_MEDIA_TYPE":
      return httpFault("unsupported_media_type", "The body must be application/json, in UTF-8.");
    case "FST_ERR_CTP_INVALID_CONTENT_LENGTH":
      return httpFault("malformed_request", "The body's length is not what Content-Length says.");
    case "FST_ERR_ROUTE_MISSING_CONTENT_TYPE":
      return httpFault("malformed_request", "The request must have a Content-Type.");
    default:
      return httpFault("malformed_request");
  }
}

function unroutable(request: FastifyRequest, bindings: readonly Binding[]): HttpFault {
  const { rawPath } = splitUrl(request.raw.url ?? "/");
  const allowed = allowedMethods(rawPath, bindings);
  if (allowed.size === 0 || allowed.has(request.method)) return httpFault("route_not_found");
  return httpFault("method_not_allowed", undefined, { allow: [...allowed].sort().join(", ") });
}

/** With what an address is known. */
export function allowedMethods(rawPath: string, bindings: readonly Binding[]): Set<string> {
  const allowed = new Set<string>();
  for (const { template, httpMethod, method } of bindings) {
    if (matchPath(template, rawPath) === undefined) continue;
    allowed.add(httpMethod);
    if (httpMethod === "GET" && method.methodKind === "unary") allowed.add("HEAD");
  }
  if (isOwnPath(rawPath)) {
    allowed.add("GET");
    allowed.add("HEAD");
  }
  return allowed;
}
