import type { BaseOptions, SASLOptions } from "@platformatic/kafka";

/** How a Kafka cluster is reached, and what is ours in it. */
export type KafkaConnection = {
  /** In front of the names of our topics and groups there, so that several deployments can share a cluster; may be empty. */
  readonly prefix: string;
  /** `host:port`, some of the cluster's brokers. */
  readonly brokers: readonly string[];
  /** Undefined where the connection isn't encrypted. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string } | undefined;
  readonly sasl?:
    | { readonly mechanism: "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512"; readonly username: string; readonly password: string }
    | undefined;
};

/**
 * What all clients of the library are made with: few tries of its own, and short ones. What goes on for longer is the work of
 * those who call, who know when to give up.
 */
export const clientOptions = ({ brokers, tls, sasl }: Omit<KafkaConnection, "prefix">): BaseOptions => ({
  clientId: "polis",
  bootstrapBrokers: [...brokers],
  connectTimeout: 3_000,
  requestTimeout: 10_000,
  timeout: 10_000,
  retries: 2,
  retryDelay: 100,
  ...(tls === undefined ? {} : { tls: { ...tls } }),
  ...(sasl === undefined ? {} : { sasl: { ...sasl } satisfies SASLOptions }),
});

/** What a topic or group of ours is called in the cluster. */
export const nameThere = ({ prefix }: Pick<KafkaConnection, "prefix">, name: string): string => `${prefix}${name}`;

/** What a topic or group of ours in the cluster is called here. */
export const nameHere = ({ prefix }: Pick<KafkaConnection, "prefix">, name: string): string => name.slice(prefix.length);

/** The errors right within one: those that it gathers, and its cause. */
export const within = (error: Error): unknown[] => [...(error instanceof AggregateError ? error.errors : []), error.cause];

/** The protocol's name of what went wrong (`TOPIC_ALREADY_EXISTS`), however deep it lies in the error. */
export function hasProtocolError(error: unknown, name: string): boolean {
  if (!(error instanceof Error)) return false;
  if ("apiId" in error && error.apiId === name) return true;
  return within(error).some((each) => hasProtocolError(each, name));
}

/** Kafka didn't say no: it couldn't be reached, or was busy with itself. Refused credentials are a no. */
export function isAway(error: unknown): boolean {
  if (!(error instanceof Error) || [error, ...within(error)].some((each) => codeOf(each) === "PLT_KFK_AUTHENTICATION")) return false;
  if (["PLT_KFK_NETWORK", "PLT_KFK_TIMEOUT"].includes(codeOf(error) ?? "")) return true;
  if ("canRetry" in error && error.canRetry === true) return true;
  return within(error).some(isAway);
}

/** A refusal with what the brokers said of it in its own message; the library has that deep within. */
export function refusal(error: unknown): unknown {
  const said = brokersWords(error);
  return said === undefined ? error : new Error(`Kafka (KAFKA_URL) refuses: ${said}`, { cause: error });
}

function brokersWords(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if ("serverErrorMessage" in error && typeof error.serverErrorMessage === "string") return error.serverErrorMessage;
  for (const each of within(error)) {
    const said = brokersWords(each);
    if (said !== undefined) return said;
  }
  return undefined;
}

const codeOf = (error: unknown): string | undefined => (error instanceof Error && "code" in error ? String(error.code) : undefined);
