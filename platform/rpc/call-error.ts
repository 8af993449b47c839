import type { Violation } from "#platform/rejection.ts";

/** The gRPC statuses that Polis uses, with their numbers (grpc.io, status codes) and what they are over HTTP. */
export const statuses = {
  CANCELLED: { grpc: 1, http: 499 },
  INTERNAL: { grpc: 13, http: 500 },
  INVALID_ARGUMENT: { grpc: 3, http: 400 },
  DEADLINE_EXCEEDED: { grpc: 4, http: 504 },
  NOT_FOUND: { grpc: 5, http: 404 },
  ALREADY_EXISTS: { grpc: 6, http: 409 },
  PERMISSION_DENIED: { grpc: 7, http: 403 },
  RESOURCE_EXHAUSTED: { grpc: 8, http: 429 },
  FAILED_PRECONDITION: { grpc: 9, http: 409 },
  UNIMPLEMENTED: { grpc: 12, http: 501 },
  UNAVAILABLE: { grpc: 14, http: 503 },
  UNAUTHENTICATED: { grpc: 16, http: 401 },
} as const;

export type Status = keyof typeof statuses;

/** May well succeed if tried again: nothing was decided about the request itself. */
export const isTransient = (status: Status): boolean =>
  status === "UNAVAILABLE" ||
  status === "DEADLINE_EXCEEDED" ||
  status === "RESOURCE_EXHAUSTED" ||
  status === "UNIMPLEMENTED" ||
  status === "CANCELLED";

/**
 * The one error of calls: the same in process and over the wire. `cause` stays where it arose and goes to its log;
 * everything else reaches the caller.
 */
export class CallError extends Error {
  override readonly name = "CallError";
  readonly status: Status;
  /** Stable, snake_case: `account_exists`, `validation_failed`, `unavailable`. */
  readonly code: string;
  readonly violations: readonly Violation[];
  /** Whole milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** The method whose call failed so, as its client notes it: for logs and causes here, and nobody else is told. */
  called: string | undefined;

  constructor(
    status: Status,
    code: string,
    message: string,
    more: { violations?: readonly Violation[]; retryAfterMs?: number; cause?: unknown } = {},
  ) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.status = status;
    this.code = code;
    this.violations = more.violations ?? [];
    this.retryAfterMs = more.retryAfterMs === undefined ? undefined : Math.ceil(more.retryAfterMs);
  }

  /** Any error as a CallError: what isn't one is a fault whose cause is not shown to the caller. */
  static from(error: unknown): CallError {
    return error instanceof CallError
      ? error
      : new CallError("INTERNAL", "internal", "Something went wrong on our side.", { cause: error });
  }
}
