import { isConnectionLost, OutcomeUnknown } from "#platform/postgres/errors.ts";
import { CallError } from "#platform/rpc/call-error.ts";

/**
 * An error of a service's work as its caller is told it: a database that can't be reached is nobody's fault, and may be tried
 * again. With the outcome unknown as well: the command's key tells whether it was carried out.
 */
export const callErrorOf = (error: unknown): unknown =>
  isConnectionLost(error) || error instanceof OutcomeUnknown
    ? new CallError("UNAVAILABLE", "unavailable", "The database can't be reached; try again.", { retryAfterMs: 1000, cause: error })
    : error;
