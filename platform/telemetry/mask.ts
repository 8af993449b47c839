/** What stands where something was left out. */
export const MASK = "***";

// Names of fields, lower-cased and without separators, that hold what opens doors or tells of a person, whoever logs them.
const HIDDEN = new Set(
  (
    "authorization proxyauthorization cookie setcookie password passphrase secret clientsecret token callertoken accesstoken refreshtoken idtoken " +
    "apikey privatekey signature otp pin cvv pan cardnumber iban userid xuserid email phone fullname firstname lastname birthdate passport " +
    "taxid description"
  ).split(" "),
);

const DEPTH_MAX = 6;
const ENTRIES_MAX = 100;

/** A URL (or a text that holds some) with the passwords in it masked, those in its query as well, where PostgreSQL's may stand. */
export const maskUrlPassword = (text: string): string =>
  text.includes("://")
    ? text
        // Up to the last @ of the authority: an @ of the password's own may stand there unencoded.
        .replace(/(\b[a-z][a-z0-9+.-]*:\/\/[^\s/:@]*:)[^\s/?#"']*(?=@)/gi, `$1${MASK}`)
        // With HTTP, a name alone is a token.
        .replace(/(\bhttps?:\/\/)[^\s/:@?#"']+(?=@)/gi, `$1${MASK}`)
        .replace(/([?&][^\s?&=]*(?:password|secret|token|key)=)[^\s&"']*/gi, `$1${MASK}`)
    : text;

/**
 * A copy that may be logged: fields that hold secrets or personal data are masked at any depth, a message of a contract is
 * shown by its type alone (its text belongs to its owner), errors keep their names, codes and causes.
 */
export function masked(value: unknown, depth = 0): unknown {
  if (typeof value === "string") return maskUrlPassword(value);
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  if (value instanceof Error) return maskedError(value, depth);
  if (value instanceof Uint8Array) return `[${value.byteLength} bytes]`;
  if (depth >= DEPTH_MAX) return "[deeper]";
  if (Array.isArray(value)) return value.slice(0, ENTRIES_MAX).map((entry) => masked(entry, depth + 1));
  if ("$typeName" in value) return `[${String(value.$typeName)}]`;
  return Object.fromEntries(
    Object.entries(value)
      .slice(0, ENTRIES_MAX)
      .map(([name, entry]) => [name, isHidden(name) && entry !== undefined ? MASK : masked(entry, depth + 1)]),
  );
}

const isHidden = (name: string): boolean => HIDDEN.has(name.toLowerCase().replaceAll(/[-_]/g, ""));

// PostgreSQL puts whole rows into `detail` and `where`: only what names the place is kept.
const KEPT = ["code", "status", "called", "severity", "constraint", "schema", "table", "column", "routine", "syscall", "signal"] as const;

function maskedError(error: Error, depth: number): Record<string, unknown> {
  const kept = KEPT.flatMap((name) => {
    const value = (error as unknown as Record<string, unknown>)[name];
    return typeof value === "string" || typeof value === "number" ? [[name, value] as const] : [];
  });
  const nested = depth < DEPTH_MAX;
  return {
    type: error.name,
    message: maskUrlPassword(error.message),
    ...Object.fromEntries(kept),
    stack: error.stack === undefined ? undefined : maskUrlPassword(error.stack),
    ...(error.cause !== undefined && nested ? { cause: masked(error.cause, depth + 1) } : {}),
    ...(error instanceof AggregateError && nested ? { errors: error.errors.map((one) => masked(one, depth + 1)) } : {}),
  };
}
