import { randomUUID } from "node:crypto";
import { afterAll } from "vitest";
import { redisUrl } from "#platform/config/setting-types.ts";
import type { OpenKvEngine } from "#platform/kv/engine.ts";
import type { RedisConnection } from "#platform/kv/redis-connection.ts";
import { redisEngine } from "#platform/kv/redis-engine.ts";
import { type Line, openLine } from "#platform/line.testing.ts";
import { testLog } from "#platform/postgres/database.testing.ts";

const url = redisUrl.parse(process.env.REDIS_URL ?? "");

export const isRedisThere = url !== undefined;

/** The Redis that REDIS_URL names, with keys of its own there. Throws where none is named. */
export function testRedis(): RedisConnection {
  if (url === undefined) throw new Error("REDIS_URL names no Redis");
  return { url, tls: undefined, prefix: `test:${randomUUID()}:` };
}

/** The engine over it, once that is reached; closed after the tests of the file, or of the `describe` that it is called in. */
export async function openTestRedis(connection: RedisConnection): Promise<OpenKvEngine> {
  const engine = redisEngine({ connection, log: testLog });
  afterAll(() => engine.close());
  while (!engine.isReached) await new Promise((resolve) => setTimeout(resolve, 2));
  return engine;
}

/** A Redis behind a line that can be broken. */
export async function redisBehindLine(): Promise<Omit<Line, "port"> & { readonly connection: RedisConnection }> {
  const connection = testRedis();
  const { port, ...line } = await openLine(connection.url);
  return { connection: { ...connection, url: { ...connection.url, port } }, ...line };
}
