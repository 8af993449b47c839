import { DatabaseError } from "pg";

/** The connection was lost at COMMIT, and whether the transaction was committed could not be found out. */
export class OutcomeUnknown extends Error {
  override readonly name = "OutcomeUnknown";
}

/** The SQLSTATE of a database that isn't there. */
export const NO_SUCH_DATABASE = "3D000";

/** The SQLSTATE of an error of the server (PostgreSQL, Appendix A), undefined for any other error. */
export const sqlState = (error: unknown): string | undefined => (error instanceof DatabaseError ? error.code : undefined);

/** 40001 and 40P01: the transaction may be run again from its start. */
export const isRetryable = (error: unknown): boolean => {
  const state = sqlState(error);
  return state === "40001" || state === "40P01";
};

/** 23505. */
export const isUniqueViolation = (error: unknown): error is DatabaseError => sqlState(error) === "23505";

/** 55P03 and 57014: a lock or a statement took too long. The transaction is over, the session goes on. */
export const isGivenUpWaiting = (error: unknown): boolean => {
  const state = sqlState(error);
  return state === "55P03" || state === "57014";
};

/** The server ends the session with it: FATAL or worse, whatever language it says that in. */
export const endsSession = (error: unknown): boolean => {
  const state = sqlState(error);
  return (
    state !== undefined && (/^57P/.test(state) || state === "25P03" || /^(FATAL|PANIC)$/.test((error as DatabaseError).severity ?? ""))
  );
};

/** 0A000 and 26000: what was prepared doesn't fit its tables any more, or isn't there. */
export const isPreparedInVain = (error: unknown): boolean => {
  const state = sqlState(error);
  return state === "0A000" || state === "26000";
};

/** 26000 and 42P05: the session isn't the one in which we prepared, or somebody else has prepared in it: a pooler lends it out. */
export const isLentSession = (error: unknown): boolean => {
  const state = sqlState(error);
  return state === "26000" || state === "42P05";
};

/** Classes 22, 23, 44 and 54, and what a trigger raises: the data is at fault, not the moment. */
export const isDataError = (error: unknown): boolean => /^(?:22|23|44|54|P0001$)/.test(sqlState(error) ?? "");

const SOCKET_ERRORS = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "ENOENT",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
]);

/** pg has no codes for these: its client was cut off, or gave up waiting. */
const DRIVER_ERRORS =
  /^(Connection terminated|Client has encountered a connection error|Client was closed|timeout expired$|timeout exceeded when trying to connect|Query read timeout$)/;

/**
 * The server was not reached, went away, or refuses for now: everything of class 08, 53, 57P and 25006, 25P03, 55P03, 57014,
 * and what the socket says. Nothing is known to be wrong with the statement.
 */
export const isConnectionLost = (error: unknown): boolean => {
  const state = sqlState(error);
  if (state !== undefined) return /^(08|53|57P)/.test(state) || ["25006", "25P03", "55P03", "57014"].includes(state);
  if (!(error instanceof Error)) return false;
  const code = (error as NodeJS.ErrnoException).code;
  return (code !== undefined && SOCKET_ERRORS.has(code)) || DRIVER_ERRORS.test(error.message);
};
