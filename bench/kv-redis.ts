import { randomUUID } from "node:crypto";
import { createClient, RESP_TYPES } from "@redis/client";
import { redisUrl } from "#platform/config/setting-types.ts";
import { createKv } from "#platform/kv/kv.ts";
import { postgresEngine } from "#platform/kv/postgres-engine.ts";
import { redisEngine } from "#platform/kv/redis-engine.ts";
import { scripts } from "#platform/kv/redis-scripts.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import type { Bench } from "./bench.ts";
import { openKvDatabase } from "./support/kv-database.ts";
import {
  callsKey,
  compare,
  decode,
  encode,
  fill,
  type KvOperations,
  LIMIT,
  ourOperations,
  TTL_MS,
  thingKey,
} from "./support/kv-operations.ts";
import { benchLog } from "./support/log.ts";
import { startServer } from "./support/server.ts";

export const kvRedis: Bench = {
  name: "kv-redis",
  text: "the key-value store on Redis beside its plain client with the same commands and scripts, a connection each",
  needs: ["redis"],
  async run({ parts, report }) {
    const server = await startServer(parts);
    const database = await openKvDatabase(server, { name: "kv", maxConnections: 1 }, parts);
    const { REDIS_URL = "" } = process.env;
    const url = redisUrl.parse(REDIS_URL);
    if (url === undefined) throw new Error(`REDIS_URL must be ${redisUrl.must}`);
    const prefix = `bench:${randomUUID()}:`;
    const engine = redisEngine({ connection: { url, tls: undefined, prefix }, log: benchLog() });
    parts.defer(() => engine.close());
    while (!engine.isReached) await new Promise((resolve) => setTimeout(resolve, 2));
    const client = await openPlainClient(REDIS_URL, prefix, parts);
    const store = createKv({ kept: postgresEngine(database, "kept"), passing: engine, copies: undefined, metrics: new Metrics() });
    const ours = ourOperations(store, "cache");
    await fill(ours);
    const operations = ["get", "getAll", "set", "compareAndSet", "take"] as const;
    await compare({ operations, where: "in Redis", ours, client, report });
  },
};

/** What somebody would write who has the same scripts, a connection, and nothing else. What has the prefix is gone at the end. */
async function openPlainClient(
  url: string,
  prefix: string,
  parts: AsyncDisposableStack,
): Promise<{ readonly name: string } & KvOperations> {
  // Its own limit for each command, which makes a get three times as dear, is off on both sides.
  const client = createClient({ url, scripts, commandOptions: { timeout: 0, typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } } });
  client.on("error", () => undefined);
  await client.connect();
  parts.defer(async () => {
    for await (const keys of client.scanIterator({ MATCH: `${prefix}*`, COUNT: 1_000 })) if (keys.length > 0) await client.unlink(keys);
    await client.close();
  });
  const named = (key: string): string => prefix + thingKey("cache", key);
  const bytes = (thing: Parameters<typeof encode>[0]): Buffer => {
    const { buffer, byteOffset, byteLength } = encode(thing);
    return Buffer.from(buffer, byteOffset, byteLength);
  };
  return {
    name: "plain @redis/client",
    async get(key) {
      const found = await client.get(named(key));
      return found === null ? undefined : decode(found);
    },
    async getAll(keys) {
      const found = await client.mGet(keys.map(named));
      return found.map((value) => (value === null ? undefined : decode(value)));
    },
    async set(key, value) {
      await client.set(named(key), bytes(value), { PX: TTL_MS });
    },
    async compareAndSet(key, from, to) {
      return (await client.compareAndSet(named(key), bytes(from), "1", bytes(to), String(TTL_MS))) === 1;
    },
    async take(key) {
      const [taken] = await client.take(prefix + callsKey(key), "1", String(LIMIT.limit), String(LIMIT.windowMs));
      return { isTaken: taken === 1 };
    },
  };
}
