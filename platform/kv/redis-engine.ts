import type { OpenKvEngine, Ttl } from "#platform/kv/engine.ts";
import { openRedis, type RedisConnection } from "#platform/kv/redis-connection.ts";
import type { Log } from "#platform/telemetry/log.ts";

const bytes = (value: Uint8Array): Buffer => Buffer.from(value.buffer, value.byteOffset, value.byteLength);
const wholeMs = (ttlMs: number): number => Math.max(1, Math.round(ttlMs));
const text = (ttlMs: Ttl): string => (ttlMs === undefined ? "" : String(wholeMs(ttlMs)));

/** The key-value store in Redis (6.2 or later), over one connection. Where Redis is away at the start, that goes on. */
export function redisEngine({ connection, log }: { readonly connection: RedisConnection; readonly log: Log }): OpenKvEngine {
  const session = openRedis({ connection, log });
  const { run, close } = session;
  const prefixed = (key: string): string => connection.prefix + key;
  return {
    async get(keys) {
      const [key] = keys;
      if (key !== undefined && keys.length === 1) return [(await run((on) => on.get(prefixed(key)))) ?? undefined];
      const values = keys.length === 0 ? [] : await run((on) => on.mGet(keys.map(prefixed)));
      return values.map((value) => value ?? undefined);
    },
    async set(key, value, ttlMs) {
      await run((on) => on.set(prefixed(key), bytes(value), ttlMs === undefined ? {} : { PX: wholeMs(ttlMs) }));
    },
    async delete(keys) {
      if (keys.length > 0) await run((on) => on.del(keys.map(prefixed)));
    },
    async add(key, value, ttlMs) {
      const expiry = ttlMs === undefined ? {} : { PX: wholeMs(ttlMs) };
      return (await run((on) => on.set(prefixed(key), bytes(value), { ...expiry, NX: true }))) !== null;
    },
    async compareAndSet(key, from, to, ttlMs) {
      const set = to === undefined ? ["0", ""] : ["1", bytes(to)];
      return (await run((on) => on.compareAndSet(prefixed(key), bytes(from), ...set, text(ttlMs)))) === 1;
    },

    async take(key, amount, limit, windowMs) {
      const [taken, used, resetMs] = await run((on) => on.take(prefixed(key), String(amount), String(limit), String(windowMs)));
      return { isTaken: taken === 1, used, resetMs };
    },
    async clear(keys) {
      if (keys.length > 0) await run((on) => on.del(keys.map(prefixed)));
    },

    async addMembers(key, members, ttlMs) {
      if (members.length > 0) await run((on) => on.addMembers(prefixed(key), text(ttlMs), ...members));
    },
    async removeMembers(key, members) {
      if (members.length > 0) await run((on) => on.zRem(prefixed(key), [...members]));
    },
    hasMember: async (key, member) => (await run((on) => on.hasMember(prefixed(key), member))) === 1,
    async members(key, limit) {
      const found = await run((on) => on.members(prefixed(key), String(limit)));
      return found.map(String);
    },

    async addItems(key, items, keep, ttlMs) {
      const flat = items.flatMap(({ member, score }) => [String(score), member]);
      if (flat.length > 0) await run((on) => on.addItems(prefixed(key), String(keep), text(ttlMs), ...flat));
    },
    async removeItems(key, members) {
      if (members.length > 0) await run((on) => on.zRem(prefixed(key), [...members]));
    },
    async items(key, limit, after) {
      const from = after === undefined ? ["+inf", ""] : [String(after.score), after.member];
      const found = await run((on) => on.items(prefixed(key), String(limit), ...from));
      return found.map(([member, score]) => ({ member: String(member), score: Number(score) }));
    },

    async ask() {
      await run((on) => on.ping());
    },
    get isReached() {
      return session.isReached;
    },
    get connection() {
      return session.connection;
    },
    close,
  };
}
