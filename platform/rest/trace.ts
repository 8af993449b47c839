import { randomFillSync } from "node:crypto";

/** A span of the edge: what is called below belongs to it. */
export type Span = {
  /** W3C trace context, for what is called below. */
  readonly traceparent: string;
  end(result: { httpStatus: number; error: unknown }): void;
};

/** Begins the span of a request, as a child of the client's trace where the client sent one. */
export type StartSpan = (name: string, parent: string | undefined) => Span;

const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?$/;
const random = Buffer.allocUnsafeSlow(24 * 128);
let used = random.length;

/** Without a tracer: hands the trace on under a new span id, or begins one, and records nothing. */
export const passTraceOn: StartSpan = (_name, parent) => ({ traceparent: childOf(parent), end() {} });

/** A traceparent of the same trace with a span id of its own; of a new trace where `parent` is none (W3C Trace Context, level 1). */
export function childOf(parent: string | undefined): string {
  if (used === random.length) {
    randomFillSync(random);
    used = 0;
  }
  const [from, split] = [used, used + 16];
  used += 24;
  const match = parent === undefined ? null : TRACEPARENT.exec(parent);
  const traceId = match?.[1] ?? random.toString("hex", from, split);
  return `00-${traceId}-${random.toString("hex", split, used)}-${match?.[2] ?? "01"}`;
}
