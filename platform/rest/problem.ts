import { STATUS_CODES } from "node:http";
import type { Violation } from "#platform/rejection.ts";
import { CallError, statuses } from "#platform/rpc/call-error.ts";

/** RFC 9457, with a stable `code` to switch on and the fields at fault. */
export type Problem = {
  readonly type: "about:blank";
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly requestId: string;
  readonly errors: readonly Violation[];
};

const UNAVAILABLE_RETRY_MS = 1_000;

export const PROBLEM_TYPE = "application/problem+json";

/** What HTTP itself refuses before any method is called: it has no status of gRPC. */
export class HttpFault extends Error {
  override readonly name = "HttpFault";
  readonly httpStatus: number;
  readonly code: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(httpStatus: number, code: string, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.httpStatus = httpStatus;
    this.code = code;
    this.headers = headers;
  }
}

/** Every problem that the edge may answer with by itself, with its HTTP status: for the documentation as well. */
export const edgeProblems = {
  malformed_request: { status: 400, text: "The request is not HTTP as it should be." },
  malformed_url: { status: 400, text: "The address can't be read: its percent-encoding is broken." },
  invalid_json: { status: 400, text: "The body is not JSON." },
  invalid_query: { status: 400, text: "The query can't be read." },
  invalid_idempotency_key: { status: 400, text: "Idempotency-Key must be 1 to 255 visible ASCII characters." },
  invalid_request_timeout: { status: 400, text: "Request-Timeout must be a number of seconds above 0." },
  validation_failed: { status: 400, text: "The request breaks the rules of its contract." },
  unauthenticated: { status: 401, text: "Nobody is named as the caller." },
  forbidden: { status: 403, text: "The caller may not do this." },
  address_blocked: { status: 403, text: "This address may not call." },
  not_found: { status: 404, text: "There is no such thing, or it is another's." },
  route_not_found: { status: 404, text: "There is nothing at this address." },
  method_not_allowed: { status: 405, text: "The address is known, and not with this method; `Allow` says with which." },
  request_timeout: { status: 408, text: "The request didn't arrive in time." },
  idempotency_key_reused: { status: 409, text: "The key stands for another request." },
  body_too_large: { status: 413, text: "The body is over the limit." },
  unsupported_media_type: { status: 415, text: "The body is not of a type that is read here." },
  headers_too_large: { status: 431, text: "The headers are over the limit." },
  overloaded: { status: 429, text: "Too much waits already: try again later." },
  rate_limited: { status: 429, text: "Too many requests: try again later, as `RateLimit` and `Retry-After` say." },
  internal: { status: 500, text: "Something went wrong on our side." },
  unavailable: { status: 503, text: "A part that is needed can't be reached: try again later." },
  deadline_exceeded: { status: 504, text: "The answer took too long." },
} as const;

/** A fault of the edge with its text. */
export const httpFault = (code: keyof typeof edgeProblems, detail?: string, headers?: Readonly<Record<string, string>>): HttpFault =>
  new HttpFault(edgeProblems[code].status, code, detail ?? edgeProblems[code].text, headers);

/** More than the edge can work on; `overloaded` at 429 is the caller's own doing, or a service's that has too much to do. */
export const overloadProblem = { status: 503, code: "overloaded", text: "There is too much to do here now: try again later." } as const;

export const overloaded = (): HttpFault =>
  new HttpFault(overloadProblem.status, overloadProblem.code, overloadProblem.text, { "retry-after": "1" });

export type ProblemAnswer = { readonly status: number; readonly headers: Record<string, string>; readonly problem: Problem };

/**
 * Any error as its answer. What is no CallError and no HttpFault is a fault of ours: 500, with nothing of its cause.
 *
 * @param challenge for `WWW-Authenticate` of a 401
 */
export function problemAnswer(error: unknown, requestId: string, challenge: string): ProblemAnswer {
  const headers: Record<string, string> = { "content-type": PROBLEM_TYPE, "cache-control": "no-store" };
  if (error instanceof HttpFault) {
    const { httpStatus, code, message } = error;
    return { status: httpStatus, headers: { ...headers, ...error.headers }, problem: problem(httpStatus, message, code, requestId, []) };
  }
  const { status, code, message, violations, retryAfterMs } = CallError.from(error);
  const httpStatus = statuses[status].http;
  // A neighbour that can't be reached doesn't say when it will be.
  const laterMs = retryAfterMs ?? (httpStatus === 503 ? UNAVAILABLE_RETRY_MS : undefined);
  if (laterMs !== undefined) headers["retry-after"] = String(Math.ceil(laterMs / 1000));
  if (httpStatus === 401) headers["www-authenticate"] = challenge;
  const detail = status === "INTERNAL" ? edgeProblems.internal.text : message;
  return { status: httpStatus, headers, problem: problem(httpStatus, detail, code, requestId, status === "INTERNAL" ? [] : violations) };
}

function problem(status: number, detail: string, code: string, requestId: string, errors: readonly Violation[]): Problem {
  // 499 is nginx's, for a client that has gone.
  const title = status === 499 ? "Client Closed Request" : (STATUS_CODES[status] ?? "Error");
  return { type: "about:blank", title, status, detail, code, requestId, errors };
}
