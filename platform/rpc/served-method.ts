import type { DescMethod, Message } from "@bufbuild/protobuf";
import type { Caller } from "#platform/access/caller.ts";
import { accessRule } from "#platform/access/enforce.ts";
import { methodName, methodOptions } from "#platform/contract/method-options.ts";
import { ruleFault } from "#platform/contract/rules.ts";
import { isRejection, type Rejection } from "#platform/rejection.ts";
import { CallError, type Status } from "#platform/rpc/call-error.ts";
import { handOver } from "#platform/rpc/handover.ts";
import { ServedCall } from "#platform/rpc/served-call.ts";
import { textsAreSound, textViolations } from "#platform/rpc/texts.ts";
import type { Call } from "#platform/rpc/transport.ts";
import { lowerUuids } from "#platform/rpc/uuids.ts";
import { validate } from "#platform/rpc/validation.ts";
import type { LatencyRecorder } from "#platform/telemetry/latency.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";
import type { Span, Tracer } from "#platform/telemetry/tracing.ts";

/** How long a caller waits who names no deadline. */
export const TIMEOUT_MS_DEFAULT = 15_000;

export type EndpointTools = { readonly metrics: Metrics; readonly tracer: Tracer; readonly log: Log };

/** A call that came in, with what is told of it when it ends. */
export type Opened = { readonly served: ServedCall; readonly span: Span; readonly startedMs: number };

/** What every call of one method goes through, whatever its kind. */
export type ServedMethod = {
  open(call: Call, letGo: (error: CallError) => void): Opened;
  /** Throws where the caller may not call. */
  admit(served: ServedCall): void;
  /** The same before there is a request. Who is turned away is counted as a call. */
  turnAway(caller: Caller): void;
  /** Throws where a message of the request breaks the contract; writes its uuids in lower case, in place. */
  checkRequest(request: Message): void;
  /** What is handed to the caller: a copy; throws for a rejection and for what may not leave. */
  answer(answer: Message | Rejection, served: ServedCall): Message;
  /** An error as the caller gets to see it; what the caller doesn't, goes to the log. */
  shown(error: unknown, served: ServedCall): CallError;
  /** Ends span and measurement. */
  close(opened: Opened, error: CallError | undefined): void;
};

/** Compiles what the contract says of a method; throws, naming the method, where the contract is at fault. */
export function serveMethod(method: DescMethod, service: string, tools: EndpointTools): ServedMethod {
  const rule = accessRule(method);
  const fault = ruleFault(method.input);
  if (fault !== undefined) throw new Error(`${methodName(method)}: ${fault}`);
  const name = methodName(method);
  const attributes = { "rpc.system": "polis", "rpc.service": method.parent.typeName, "rpc.method": method.name };
  const mayStayOpen = method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming";
  const record = recorder(method, service, tools.metrics);
  const rejected = rejections(method);
  return {
    open(call, letGo) {
      const span = tools.tracer.start(name, call.traceparent, attributes);
      const deadlineMs = call.deadlineMs === Number.POSITIVE_INFINITY && !mayStayOpen ? Date.now() + TIMEOUT_MS_DEFAULT : call.deadlineMs;
      return { served: new ServedCall(call, deadlineMs, span, letGo), span, startedMs: performance.now() };
    },
    admit: (served) => rule.admit(served.caller),
    turnAway(caller) {
      try {
        rule.admit(caller);
      } catch (error) {
        record(CallError.from(error).status).observe(0);
        throw error;
      }
    },
    checkRequest(request) {
      validate(method.input, request);
      lowerUuids(method.input, request);
    },
    answer(answer, served) {
      if (isRejection(answer)) throw rejected(answer);
      rule.checkOwner(served.caller, answer);
      const copied = handOver(method.output, answer);
      // UTF-8 would change it on the wire, so it may not leave in process either.
      if (!textsAreSound(method.output, copied))
        throw new Error(`an answer with unsound text: ${JSON.stringify(textViolations(method.output, copied))}`);
      return copied;
    },
    shown(error, served) {
      if (error instanceof CallError && error.cause === undefined) return error;
      const shown = CallError.from(error);
      if (served.cancelled) tools.log.debug({ err: error, method: name }, "a call failed after its caller was let go");
      else if (shown.status === "INTERNAL") tools.log.error({ err: error, method: name, traceparent: served.traceparent }, "a call failed");
      else tools.log.warn({ err: error, method: name, traceparent: served.traceparent }, "a call failed at a peer");
      // Its cause stays here.
      return new CallError(shown.status, shown.code, shown.message, {
        violations: shown.violations,
        ...(shown.retryAfterMs === undefined ? {} : { retryAfterMs: shown.retryAfterMs }),
      });
    },
    close({ served, span, startedMs }, error) {
      served.end();
      record(error?.status ?? "OK").observe((performance.now() - startedMs) / 1000);
      span.end(error);
    },
  };
}

function recorder(method: DescMethod, service: string, metrics: Metrics): (code: Status | "OK") => LatencyRecorder {
  const latency = metrics.latency("polis_call_duration_seconds", "Calls served, by method and gRPC status.", ["service", "method", "code"]);
  const known = new Map<string, LatencyRecorder>();
  return (code) => {
    let found = known.get(code);
    if (found === undefined) {
      found = latency.recorder({ service, method: method.name, code });
      known.set(code, found);
    }
    return found;
  };
}

/** Maps what the domain refuses to what the contract says of it. */
function rejections(method: DescMethod): (rejection: Rejection) => CallError {
  const { rejections: declared, idempotency } = methodOptions(method);
  const known = new Map(declared);
  if (!known.has("not_found")) known.set("not_found", { status: "NOT_FOUND", text: "There is no such thing." });
  if (idempotency === "KEYED" && !known.has("idempotency_key_reused"))
    known.set("idempotency_key_reused", { status: "ALREADY_EXISTS", text: "The idempotency key stands for another request." });
  return ({ code, detail, retryAfterMs }) => {
    const said = known.get(code);
    if (said === undefined) return CallError.from(new Error(`${methodName(method)}: the contract doesn't declare the rejection ${code}`));
    return new CallError(said.status, code, detail ?? said.text, retryAfterMs === undefined ? {} : { retryAfterMs });
  };
}
