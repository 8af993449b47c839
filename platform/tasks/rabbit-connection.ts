import { Connection, type ConnectionOptions } from "rabbitmq-client";
import { type Certificates, serverNameOf } from "#platform/config/certificates.ts";
import { connectionFault } from "#platform/config/connection-fault.ts";
import type { RabbitUrl } from "#platform/config/setting-types.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** How RabbitMQ is reached. */
export type RabbitConnection = {
  readonly url: RabbitUrl;
  readonly tls: Certificates | undefined;
  /** In front of the names of queues. */
  readonly prefix: string;
};

export const CONNECT_MS = 5_000;
const HEARTBEAT_S = 10;
const HERE = "RabbitMQ carries tasks";
const AWAY = "RabbitMQ is away; tasks are taken from PostgreSQL";

/**
 * A connection to the first node that answers, which goes on to the others whenever it is lost; to none yet where none does. Throws
 * where one won't have us. Each node is asked by a connection that begins with it: of several tries of one connection the library
 * tells the first one's fault.
 */
export async function connectRabbit(connection: RabbitConnection, logger: Log): Promise<Connection> {
  const { url, tls } = connection;
  for (let n = 0; ; n += 1) {
    const hosts = [...url.hosts.slice(n), ...url.hosts.slice(0, n)];
    const rabbit = new Connection(clientOptions({ ...connection, url: { ...url, hosts } }));
    const fault = await new Promise<unknown>((resolve) => {
      rabbit.on("connection", () => resolve(undefined));
      rabbit.on("error", resolve);
    });
    if (isRefusal(fault)) {
      rabbit.unsafeDestroy();
      throw new Error(`RabbitMQ refuses: ${(fault as Error).message}`, { cause: fault });
    }
    if (fault === undefined) {
      logger.info({ node: hosts[0] }, HERE);
      return told(rabbit, logger);
    }
    const isLast = n === url.hosts.length - 1;
    const err = connectionFault("RABBITMQ", tls, fault);
    logger.warn({ err, node: hosts[0] }, isLast ? AWAY : "a node of RabbitMQ is away; the next one is asked");
    if (isLast) return told(rabbit, logger);
    rabbit.unsafeDestroy();
  }
}

/** From here on it is logged when the connection comes and goes. */
function told(rabbit: Connection, logger: Log): Connection {
  rabbit.on("connection", () => logger.info(HERE));
  rabbit.on("error", (error) => logger.warn({ err: error }, AWAY));
  return rabbit;
}

/** It answers, and won't have us: no waiting helps. */
const isRefusal = (error: unknown): boolean =>
  ["ACCESS_REFUSED", "NOT_ALLOWED"].includes((error as { code?: string } | undefined)?.code ?? "");

export const clientOptions = ({ url, tls }: RabbitConnection): ConnectionOptions => ({
  hosts: [...url.hosts],
  username: url.user.name,
  password: url.user.password,
  vhost: url.vhost,
  ...(url.tls ? { tls: { ...serverNameOf(url.hosts.map((host) => host.replace(/:\d+$/, ""))), ...tls } } : {}),
  connectionName: "polis",
  connectionTimeout: CONNECT_MS,
  acquireTimeout: CONNECT_MS,
  heartbeat: HEARTBEAT_S,
  retryLow: 200,
  retryHigh: 5_000,
  noDelay: true,
});
