import type { Admin, BaseOptions, Consumer, Producer, SASLOptions } from "@platformatic/kafka";
import type { Certificates } from "#platform/config/certificates.ts";
import { atMost } from "#platform/events/signal.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** How a Kafka cluster is reached, and what is ours in it. */
export type KafkaConnection = {
  /** In front of the names of our topics and groups there, so that several deployments can share a cluster; may be empty. */
  readonly prefix: string;
  /** `host:port`, some of the cluster's brokers. */
  readonly brokers: readonly string[];
  /** Undefined where the connection isn't encrypted. */
  readonly tls?: Certificates | undefined;
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

/** Ends a client: in peace, or, where the cluster doesn't answer for so long, by cutting its connections, and so what is on its way. */
export async function closeClient(client: Admin | Consumer | Producer, partingMs: number, logger: Log): Promise<void> {
  const onError = (error: unknown): void => logger.debug({ err: error }, "a client of Kafka ends by itself");
  await atMost(partingMs, client.close().catch(onError));
  await client.connections.close().catch(onError);
}

/** What a topic or group of ours is called in the cluster. */
export const nameThere = ({ prefix }: Pick<KafkaConnection, "prefix">, name: string): string => `${prefix}${name}`;

/** What a topic or group of ours in the cluster is called here. */
export const nameHere = ({ prefix }: Pick<KafkaConnection, "prefix">, name: string): string => name.slice(prefix.length);
