/** An error and every error within it, however deep: those that it gathers, and its cause. */
export function* errorsIn(error: unknown): Generator<Error> {
  if (!(error instanceof Error)) return;
  yield error;
  if (error instanceof AggregateError) for (const each of error.errors) yield* errorsIn(each);
  yield* errorsIn(error.cause);
}

/** Kafka's answer has an error of this name in its protocol (`TOPIC_ALREADY_EXISTS`). */
export const hasProtocolError = (error: unknown, name: string): boolean =>
  errorsIn(error).some((each) => "apiId" in each && each.apiId === name);

/** A broker doesn't know of a topic; asked for metadata, the library says so by its message alone. */
export const isUnknownTopic = (error: unknown): boolean =>
  hasProtocolError(error, "UNKNOWN_TOPIC_OR_PARTITION") || errorsIn(error).some(({ message }) => message.startsWith("Unknown topic "));

/** Kafka didn't say no: it couldn't be reached, or was busy with itself. Where any of its brokers refuses the credentials, that is a no. */
export function isAway(error: unknown): boolean {
  const errors = [...errorsIn(error)];
  if (errors.some((each) => hasCode(each, "PLT_KFK_AUTHENTICATION"))) return false;
  return errors.some(
    (each) => hasCode(each, "PLT_KFK_NETWORK") || hasCode(each, "PLT_KFK_TIMEOUT") || ("canRetry" in each && each.canRetry === true),
  );
}

/** A refusal with what the brokers said of it in its own message; the library has that deep within. */
export function refusal(error: unknown): unknown {
  for (const each of errorsIn(error))
    if ("serverErrorMessage" in each && typeof each.serverErrorMessage === "string")
      return new Error(`Kafka (KAFKA_URL) refuses: ${each.serverErrorMessage}`, { cause: error });
  return error;
}

const hasCode = (error: Error, code: string): boolean => "code" in error && error.code === code;
