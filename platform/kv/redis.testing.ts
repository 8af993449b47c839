import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { afterAll } from "vitest";
import { redisUrl } from "#platform/config/setting-types.ts";
import type { OpenKvEngine } from "#platform/kv/engine.ts";
import type { RedisConnection } from "#platform/kv/redis-connection.ts";
import { redisEngine } from "#platform/kv/redis-engine.ts";
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

/** `cut`: nobody listens. `mute`: what comes is swallowed. */
type Line = "open" | "cut" | "mute";

/** A Redis behind a line that can be broken. */
export async function redisBehindLine(): Promise<{
  readonly connection: RedisConnection;
  line(next: Line): void;
  /** How many connections there are. */
  sockets(): number;
}> {
  const connection = testRedis();
  const far = connection.url;
  let line: Line = "open";
  const sockets = new Set<Socket>();
  const proxy = createServer((near) => {
    if (line === "cut") return near.destroy();
    const there = connect(far.port, far.host);
    const end = () => {
      near.destroy();
      there.destroy();
    };
    for (const socket of [near, there]) socket.on("error", end).on("close", end);
    sockets.add(near);
    near.on("close", () => sockets.delete(near));
    there.pipe(near);
    near.on("data", (data) => void (line !== "mute" && there.write(data)));
  }).listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const close = () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  afterAll(() => {
    close();
    proxy.close();
  });
  return {
    connection: { ...connection, url: { ...far, port: (proxy.address() as AddressInfo).port } },
    sockets: () => sockets.size,
    line(next) {
      line = next;
      if (next === "cut") close();
    },
  };
}
