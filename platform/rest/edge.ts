import type { DescService, Registry } from "@bufbuild/protobuf";
import type { FastifyRequest } from "fastify";
import type { Caller } from "#platform/access/caller.ts";
import { requireNamed } from "#platform/access/enforce.ts";
import type { Protection } from "#platform/edge/protection.ts";
import { uuidv7 } from "#platform/ids.ts";
import type { Exchange } from "#platform/rest/exchange.ts";
import type { Identity } from "#platform/rest/identity.ts";
import { httpFault } from "#platform/rest/problem.ts";
import type { Binding, Matched } from "#platform/rest/routes.ts";
import { USER_AGENT_LENGTH_MAX } from "#platform/rpc/origin.ts";
import type { Call, Transport } from "#platform/rpc/transport.ts";
import { IDEMPOTENCY_KEY } from "#platform/rpc/validation.ts";
import type { Tracer } from "#platform/telemetry/tracing.ts";

/** What every route of the edge works with. */
export type Edge = {
  readonly transportFor: (service: DescService) => Transport;
  readonly identity: Identity;
  /** Undefined where nothing is served but the process's own addresses. */
  readonly protection: Protection | undefined;
  readonly registry: Registry;
  readonly tracer: Tracer;
  /** Of a unary call, where the client doesn't say. Milliseconds. */
  readonly timeoutMs: number;
  /** The most that a client may ask for. */
  readonly timeoutMaxMs: number;
  /** Of a stream as a whole. */
  readonly streamTimeoutMs: number;
  /** Of a body that is read whole, and of one line of a stream. */
  readonly bodyLimitBytes: number;
  /** Of a streamed upload. */
  readonly uploadLimitBytes: number;
  /** Streams that are open; each ends with `shutting_down` when the server closes. */
  readonly streams: Set<Exchange>;
};

/**
 * Begins a request that met a binding, by its head alone: nothing of a body is read for who may not call. Throws CallError where
 * nobody calls what isn't public, or whoever is named can't be believed.
 */
export function meet(edge: Edge, matched: Matched, { headers, exchange }: FastifyRequest): void | Promise<void> {
  const { httpMethod, template, options } = matched.binding;
  exchange.matched = matched;
  const parent = textHeader(headers.traceparent as string | string[] | undefined);
  exchange.span = edge.tracer.start(`${httpMethod} ${template.text}`, parent, {
    "http.request.method": httpMethod,
    "http.route": template.text,
  });
  const identified = (caller: Caller): void => {
    if (!options.access.public) requireNamed(caller);
    exchange.caller = caller;
  };
  const found = edge.identity.identify(headers, { isSensitive: options.sensitive, isPublic: options.access.public });
  return found instanceof Promise ? found.then(identified) : identified(found);
}

/** The call of a request that has been met, as its headers have it. Its time begins now. Throws HttpFault. */
export function startCall(edge: Edge, binding: Binding, { headers, exchange }: FastifyRequest): Call {
  const isUnary = binding.method.methodKind === "unary";
  const said = headers["request-timeout"];
  return {
    caller: exchange.caller,
    deadlineMs:
      Date.now() +
      (isUnary ? timeoutMs(said, edge.timeoutMs, edge.timeoutMaxMs) : timeoutMs(said, edge.streamTimeoutMs, edge.streamTimeoutMs)),
    cancellation: exchange,
    traceparent: exchange.span?.traceparent,
    idempotencyKey: idempotencyKey(textHeader(headers["idempotency-key"]), binding),
    origin: { address: exchange.address, userAgent: (headers["user-agent"] ?? "").slice(0, USER_AGENT_LENGTH_MAX) },
  };
}

const textHeader = (value: string | string[] | undefined): string | undefined => (Array.isArray(value) ? value.join(", ") : value);

/** Without a key of the client's, a keyed method gets one, so that retries behind the edge are safe. */
function idempotencyKey(said: string | undefined, { options }: Binding): string | undefined {
  if (said === undefined) return options.idempotency === "KEYED" ? uuidv7() : undefined;
  if (!IDEMPOTENCY_KEY.test(said)) throw httpFault("invalid_idempotency_key");
  return said;
}

/** `Request-Timeout` in seconds, fractions allowed; never past the bound. */
function timeoutMs(said: string | string[] | undefined, defaultMs: number, maxMs: number): number {
  if (said === undefined) return defaultMs;
  const ms = typeof said === "string" && /^\d{1,6}(?:\.\d{1,3})?$/.test(said) ? Math.round(Number(said) * 1000) : 0;
  if (ms === 0) throw httpFault("invalid_request_timeout");
  return Math.min(ms, maxMs);
}
