import type { Registry } from "@bufbuild/protobuf";
import type { FastifyReply, FastifyRequest } from "fastify";
import { uuidv7 } from "#platform/ids.ts";
import type { Identity } from "#platform/rest/identity.ts";
import type { Call, Invoke } from "#platform/rest/invoke.ts";
import { httpFault } from "#platform/rest/problem.ts";
import type { Binding } from "#platform/rest/routes.ts";
import type { Span, StartSpan } from "#platform/rest/trace.ts";

/** What every route of the edge works with. */
export type Edge = {
  readonly invoke: Invoke;
  readonly identity: Identity;
  readonly registry: Registry;
  readonly startSpan: StartSpan;
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
  /** Streams that are open; each ends with `unavailable` when the server closes. */
  readonly streams: Set<AbortController>;
};

/** A binding as a request met it. */
export type Matched = { readonly binding: Binding; readonly pathValues: readonly string[]; readonly rawQuery: string };

declare module "fastify" {
  interface FastifyRequest {
    span: Span | undefined;
    /** The template that was met, for logs and metrics: addresses themselves hold ids. */
    route: string;
  }
}

/** What the headers say of the call. Throws CallError or HttpFault. */
export async function startCall(edge: Edge, binding: Binding, request: FastifyRequest, signal: AbortSignal): Promise<Call> {
  const { headers } = request;
  const isStream = binding.method.methodKind !== "unary";
  const span = edge.startSpan(
    `${binding.httpMethod} ${binding.template.text}`,
    textHeader(headers.traceparent as string | string[] | undefined),
  );
  request.span = span;
  const identified = edge.identity.identify(headers);
  const caller = identified instanceof Promise ? await identified : identified;
  return {
    caller,
    idempotencyKey: idempotencyKey(textHeader(headers["idempotency-key"]), binding),
    traceparent: span.traceparent,
    timeoutMs: isStream
      ? timeoutMs(headers["request-timeout"], edge.streamTimeoutMs, edge.streamTimeoutMs)
      : timeoutMs(headers["request-timeout"], edge.timeoutMs, edge.timeoutMaxMs),
    signal,
  };
}

/** Fires when the client goes before its answer is complete. */
export function abortOnDisconnect(reply: FastifyReply): AbortController {
  const abort = new AbortController();
  reply.raw.once("close", () => {
    if (!reply.raw.writableFinished) abort.abort(new Error("the client has gone"));
  });
  return abort;
}

const textHeader = (value: string | string[] | undefined): string | undefined => (Array.isArray(value) ? value.join(", ") : value);

/** Without a key of the client's, a keyed method gets one, so that retries behind the edge are safe. */
function idempotencyKey(said: string | undefined, { options }: Binding): string | undefined {
  if (said === undefined) return options.idempotency === "KEYED" ? uuidv7() : undefined;
  if (!/^[\x21-\x7e]{1,255}$/.test(said)) throw httpFault("invalid_idempotency_key");
  return said;
}

/** `Request-Timeout` in seconds, fractions allowed; never past the bound. */
function timeoutMs(said: string | string[] | undefined, defaultMs: number, maxMs: number): number {
  if (said === undefined) return defaultMs;
  const ms = typeof said === "string" && /^\d{1,6}(?:\.\d{1,3})?$/.test(said) ? Math.round(Number(said) * 1000) : 0;
  if (ms === 0) throw httpFault("invalid_request_timeout");
  return Math.min(ms, maxMs);
}
