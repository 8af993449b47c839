import { getRandomValues } from "node:crypto";

/** A W3C trace context (w3.org/TR/trace-context, version 00). */
export type TraceContext = {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** 16 hexadecimal digits. */
  readonly spanId: string;
  readonly sampled: boolean;
};

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const NO_TRACE = "0".repeat(32);
const NO_SPAN = "0".repeat(16);

/** Reads a `traceparent`; undefined where it is malformed. A version from the future is read as far as it is like ours. */
export function parseTraceparent(text: string | undefined): TraceContext | undefined {
  const match = text === undefined ? null : TRACEPARENT.exec(text);
  if (match === null) return undefined;
  const [, version, traceId, spanId, flags, rest] = match as unknown as [string, string, string, string, string, string | undefined];
  if (version === "ff" || traceId === NO_TRACE || spanId === NO_SPAN || (version === "00" && rest !== undefined)) return undefined;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

export const formatTraceparent = ({ traceId, spanId, sampled }: TraceContext): string => `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`;

/** The first span of a new trace; not sampled, for who exports nothing has nothing to ask of others. */
export const newTraceparent = (sampled = false): string => formatTraceparent({ traceId: randomHex(32), spanId: randomHex(16), sampled });

/** A new span under `parent`, with its trace and its decision to sample. */
export function childTraceparent(parent: string | undefined): string {
  const context = parseTraceparent(parent);
  return context === undefined ? newTraceparent() : formatTraceparent({ ...context, spanId: randomHex(16) });
}

const random = Buffer.alloc(1_024);
let used = random.length;

function randomHex(digits: 16 | 32): string {
  if (used + digits / 2 > random.length) {
    getRandomValues(random);
    used = 0;
  }
  const hex = random.toString("hex", used, used + digits / 2);
  used += digits / 2;
  // All zeros means "none" in the standard.
  return hex === NO_SPAN || hex === NO_TRACE ? randomHex(digits) : hex;
}
