import { DatabaseError } from "pg";

/** The SQLSTATE of an error of the server (PostgreSQL, Appendix A), undefined for any other error. */
export const sqlState = (error: unknown): string | undefined => (error instanceof DatabaseError ? error.code : undefined);

/** 40001 and 40P01: the transaction may be run again from its start. */
export const isRetryable = (error: unknown): boolean => {
  const state = sqlState(error);
  return state === "40001" || state === "40P01";
};

/** 23505. */
export const isUniqueViolation = (error: unknown): error is DatabaseError => sqlState(error) === "23505";

/** Classes 22 and 23: the data is at fault, not the moment. */
export const isDataError = (error: unknown): boolean => {
  const state = sqlState(error);
  return state !== undefined && (state.startsWith("22") || state.startsWith("23"));
};

/**
 * The server was not reached, went away, or refuses for now: everything of class 08, 53, 57P and 25006, 55P03, and what the
 * socket says. Nothing is known to be wrong with the statement.
 */
export const isConnectionLost = (error: unknown): boolean => {
  const state = sqlState(error);
  if (state !== undefined) return /^(08|53|57P)/.test(state) || state === "25006" || state === "25P03" || state === "55P03" || state === "57014";
  if (!(error instanceof Error)) return false;
  const code = (error as NodeJS.ErrnoException).code;
  if (code !== undefined && ["ECONNREFUSED", "ECONNRESET", "EPIPE", "ENOENT", "ETIMEDOUT", "EHOSTUNREACH", "ENOTFOUND", "EAI_AGAIN"].includes(code)) return true;
  return /Connection terminated|connection timeout|Client has encountered a connection error|not queryable|timeout exceeded when trying to connect/i.test(error.message);
};
