import type { IncomingHttpHeaders } from "node:http";

const ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key, X-API-Key, Request-Timeout, traceparent";
const EXPOSED_HEADERS = "ETag, Location, Retry-After, RateLimit, RateLimit-Policy, X-Request-Id";
/** How long a browser may go by an answer to its preflight. */
const PREFLIGHT_S = "600";

export type Cors = {
  /** The headers of an answer, names and values in turn: what it says depends on the origin, also where that may not read it. */
  answerTo(headers: IncomingHttpHeaders): readonly string[];
  /** Whether a browser asks what a page of an origin that is ours may send. */
  isPreflight(method: string, headers: IncomingHttpHeaders): boolean;
  /** The further headers of the answer to that. */
  preflight(methods: readonly string[]): Readonly<Record<string, string>>;
};

const VARY = ["vary", "Origin"];

/**
 * Which pages may call from a browser (fetch.spec.whatwg.org, CORS protocol). Without credentials: callers name themselves by a
 * header, which a page sets itself, and a browser adds nothing.
 */
export function corsOf(origins: readonly string[]): Cors | undefined {
  if (origins.length === 0) return undefined;
  const answers = new Map(
    origins.map((origin) => [
      origin,
      [...VARY, "access-control-allow-origin", origin, "access-control-expose-headers", EXPOSED_HEADERS] as readonly string[],
    ]),
  );
  return {
    answerTo: ({ origin }) => (origin === undefined ? VARY : (answers.get(origin) ?? VARY)),
    isPreflight: (method, { origin, "access-control-request-method": asked }) =>
      method === "OPTIONS" && asked !== undefined && origin !== undefined && answers.has(origin),
    preflight: (methods) => ({
      "access-control-allow-methods": methods.join(", "),
      "access-control-allow-headers": ALLOWED_HEADERS,
      "access-control-max-age": PREFLIGHT_S,
    }),
  };
}
