import { join } from "node:path";
import { describe } from "vitest";
import { copiedValues, type KeptValues } from "#platform/kv/copied-values.ts";
import type { OpenKvEngine } from "#platform/kv/engine.ts";
import { type Keeping, postgresEngine } from "#platform/kv/postgres-engine.ts";
import { isRedisThere, openTestRedis, testRedis } from "#platform/kv/redis.testing.ts";
import { testDatabase } from "#platform/postgres/database.testing.ts";

export const kvMigrations = join(import.meta.dirname, "migrations");

/** Engines over the same data, as processes beside each other have them. */
type OpenEngines = (count: number) => Promise<OpenKvEngine[]>;

async function inPostgres(count: number, keeping: Keeping): Promise<(OpenKvEngine & KeptValues)[]> {
  const database = await testDatabase({ migrations: [kvMigrations], maxConnections: 8 });
  const engine = { ...postgresEngine(database, keeping), isReached: true, connection: 1, ask: async () => {}, close: async () => {} };
  return Array.from({ length: count }, () => engine);
}

async function inRedis(count: number): Promise<OpenKvEngine[]> {
  const connection = testRedis();
  return Promise.all(Array.from({ length: count }, () => openTestRedis(connection)));
}

async function copiedToRedis(count: number): Promise<OpenKvEngine[]> {
  const [kept, copies] = await Promise.all([inPostgres(count, "kept"), inRedis(count)]);
  return kept.map((engine, n) => ({ ...engine, ...copiedValues(engine, copies[n] as OpenKvEngine) }));
}

/** What the key-value store is, whatever it stands on: every sentence said here is tested on each engine. */
export function describeEngines(sentences: (open: OpenEngines) => void): void {
  describe("in PostgreSQL, kept", () => sentences((count) => inPostgres(count, "kept")));
  describe("in PostgreSQL, passing", () => sentences((count) => inPostgres(count, "passing")));
  describe.skipIf(!isRedisThere)("in Redis", () => sentences(inRedis));
  describe.skipIf(!isRedisThere)("in PostgreSQL, kept, with copies in Redis", () => sentences(copiedToRedis));
}
