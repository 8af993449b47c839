import { createClient, ErrorReply, RESP_TYPES } from "@redis/client";
import { type Certificates, serverNameOf } from "#platform/config/certificates.ts";
import { connectionFault } from "#platform/config/connection-fault.ts";
import { type RedisUrl, redisAddress } from "#platform/config/setting-types.ts";
import { KvUnavailable } from "#platform/kv/engine.ts";
import { scripts } from "#platform/kv/redis-scripts.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** A Redis that has been asked and says nothing for so long is taken for away. */
const ANSWER_MS = 1_000;
const CONNECT_MS = 2_000;
const RECONNECT_MS_MIN = 50;
const RECONNECT_MS_MAX = 1_000;
/** Between two warnings that Redis refuses what it is asked. */
const REFUSED_PAUSE_MS = 10_000;

export type RedisConnection = {
  readonly url: RedisUrl;
  /** What it is reached with where its URL says TLS. */
  readonly tls: Certificates | undefined;
  /** Stands in front of every key. */
  readonly prefix: string;
};

const makeClient = ({ url, tls }: RedisConnection) =>
  createClient({
    ...(url.user === undefined ? {} : { username: url.user.name, password: url.user.password }),
    database: url.database,
    scripts,
    disableOfflineQueue: true,
    // Without a limit for each command: `watch` knows when Redis is away. The client's own makes a signal and a timer that stays for
    // five seconds with every command, which took three times the CPU and half a gigabyte at 80,000 a second.
    commandOptions: { timeout: 0, typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } },
    socket: {
      host: url.host,
      port: url.port,
      connectTimeout: CONNECT_MS,
      reconnectStrategy: (retries) => Math.min(RECONNECT_MS_MIN * 2 ** retries, RECONNECT_MS_MAX),
      ...(url.tls ? { tls: true as const, ...serverNameOf([url.host]), ...defined(tls) } : {}),
    },
  });

/** What can be asked of Redis, which answers in bytes; scripts are commands like others. */
export type RedisClient = ReturnType<typeof makeClient>;

export type RedisSession = {
  readonly isReached: boolean;
  /** How many connections have been made. */
  readonly connection: number;
  /** Rejects with `KvUnavailable` where Redis can't be reached, and with its own words where it refuses. */
  run<T>(ask: (client: RedisClient) => Promise<T>): Promise<T>;
  close(): Promise<void>;
};

/**
 * One connection to Redis, made again whenever it is lost. While there is none, everything fails at once, and with one that is lost,
 * all that waited for an answer.
 */
export function openRedis({ connection, ...tools }: { readonly connection: RedisConnection; readonly log: Log }): RedisSession {
  const log = tools.log.child({ redis: redisAddress(connection.url) });
  let connections = 0;
  let underWay = 0;
  /** Since when Redis owes us a word: it answers in the order in which it was asked. */
  let owesSinceMs: number | undefined;
  let refusedMs = Number.NEGATIVE_INFINITY;
  let isClosed = false;
  let isAway = false;
  let wasReached = false;
  /** The faults of settings that were told of since Redis is away. */
  const told = new Set<string>();
  let client = open();

  /** Told once, and each fault of settings that shows later. */
  function lost(error: unknown): void {
    if (isClosed) return;
    const fault = wasReached ? error : connectionFault("REDIS", connection.tls, error);
    wasReached = false;
    if (isAway && (fault === error || told.has(String(fault)))) return;
    isAway = true;
    told.add(String(fault));
    const why = error instanceof ErrorReply ? "Redis won't have us" : "Redis isn't reached";
    log.warn({ err: fault }, `${why}; what it holds is done without until that changes`);
  }

  function unavailable(error: unknown): KvUnavailable {
    const nowMs = performance.now();
    if (error instanceof ErrorReply && nowMs - refusedMs >= REFUSED_PAUSE_MS) {
      refusedMs = nowMs;
      log.warn({ err: error }, "Redis refuses; what it holds is done without");
    }
    return new KvUnavailable(error);
  }

  function open(): RedisClient {
    const opened = makeClient(connection);
    // It is greeted then, and greets.
    opened.on("connect", () => {
      if (opened !== client) return;
      owesSinceMs = performance.now();
    });
    opened.on("ready", () => {
      // One that was closed while it connected is connected all the same.
      if (opened !== client || isClosed) return opened.destroy();
      owesSinceMs = undefined;
      connections += 1;
      if (isAway) log.info("Redis is reached again");
      isAway = false;
      wasReached = true;
      told.clear();
    });
    opened.on("error", (error: unknown) => {
      if (opened !== client) return;
      owesSinceMs = undefined;
      lost(error);
    });
    opened.connect().catch(() => undefined);
    return opened;
  }

  const watch = setInterval(() => {
    if (owesSinceMs === undefined || performance.now() - owesSinceMs < ANSWER_MS) return;
    lost(new Error(`Redis has said nothing for ${ANSWER_MS} ms`));
    underWay = 0;
    owesSinceMs = undefined;
    client.destroy();
    client = open();
  }, ANSWER_MS / 4);
  watch.unref();

  return {
    get isReached() {
      return client.isReady;
    },
    get connection() {
      return connections;
    },
    async run(ask) {
      const asked = client;
      if (!asked.isReady) throw new KvUnavailable(undefined);
      underWay += 1;
      owesSinceMs ??= performance.now();
      try {
        return await ask(asked);
      } catch (error) {
        throw isFault(error) ? error : unavailable(error);
      } finally {
        // One that was given up is counted no more.
        if (asked === client) {
          underWay -= 1;
          owesSinceMs = underWay > 0 ? performance.now() : undefined;
        }
      }
    },
    async close() {
      isClosed = true;
      clearInterval(watch);
      const late = setTimeout(() => client.destroy(), ANSWER_MS);
      if (client.isReady && underWay > 0) await client.close().catch(() => undefined);
      else client.destroy();
      clearTimeout(late);
    },
  };
}

/**
 * What no waiting mends: the operation itself is wrong, as Redis says, or the client, which throws a TypeError for what it can't write
 * and none of these for a lost connection. All else is Redis' state, or what it lets us do. What stops a script, Redis 6, 7.0 and later
 * ones each tell in other words after ERR, and Redis 6 so tells of a WRONGTYPE, too.
 */
const isFault = (error: unknown): boolean =>
  error instanceof ErrorReply
    ? /WRONGTYPE|^ERR (?!Error running script|The user executing the script|ACL failure in script)/.test(error.message)
    : error instanceof TypeError || error instanceof RangeError;

const defined = ({ ca, cert, key }: Certificates = {}) => ({
  ...(ca === undefined ? {} : { ca }),
  ...(cert === undefined ? {} : { cert }),
  ...(key === undefined ? {} : { key }),
});
