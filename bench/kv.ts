import { strict as assert } from "node:assert";
import { Pool, type QueryResultRow } from "pg";
import { type KvEngine, type Loss, WINDOW_PARTS } from "#platform/kv/engine.ts";
import { createKv } from "#platform/kv/kv.ts";
import { postgresEngine } from "#platform/kv/postgres-engine.ts";
import type { Database } from "#platform/postgres/database.ts";
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
import { startServer } from "./support/server.ts";

const CONNECTIONS = 8;

export const kv: Bench = {
  name: "kv",
  text: "the key-value store on PostgreSQL beside plain pg with the same statements",
  async run({ parts, report }) {
    const server = await startServer(parts);
    const database = await openKvDatabase(server, { name: "kv", maxConnections: CONNECTIONS }, parts);
    const pool = new Pool({ ...server.connection("kv"), max: CONNECTIONS });
    pool.on("error", () => undefined);
    parts.defer(() => pool.end());
    const passing = postgresEngine(database, "passing");
    const store = createKv({ kept: postgresEngine(database, "kept"), passing, copies: undefined, metrics: new Metrics() });

    for (const [loss, where, operations] of [
      ["durable", "kept in PostgreSQL", ["get", "getAll", "set", "compareAndSet"]],
      ["cache", "passing in PostgreSQL", ["set", "compareAndSet", "take"]],
    ] as const) {
      const ours = ourOperations(store, loss);
      await fill(ours);
      await server.tidy();
      await compare({ operations, where, ours, client: await plainPg(pool, database, loss), server, report });
    }
  },
};

/** What somebody would write who has the same statements, a pool of pg, and nothing else. */
async function plainPg(pool: Pool, database: Database, loss: Loss): Promise<{ readonly name: string } & KvOperations> {
  const prepared = async <R extends QueryResultRow>(name: string, ask: (engine: KvEngine) => Promise<unknown>) => {
    const text = await textOf(database, loss, ask);
    return (values: unknown[]) => pool.query<R>({ name, text, values });
  };
  const bytes = new Uint8Array();
  const get = await prepared<{ value: Buffer }>("get", (engine) => engine.get(["a"]));
  const getAll = await prepared<{ key: string; value: Buffer }>("get all", (engine) => engine.get(["a", "b"]));
  const set = await prepared(`set ${loss}`, (engine) => engine.set("a", bytes, TTL_MS));
  const compareAndSet = await prepared(`compare and set ${loss}`, (engine) => engine.compareAndSet("a", bytes, bytes, TTL_MS));
  const take = await prepared<{ is_taken: boolean }>("take", (engine) => engine.take("a", 1, LIMIT.limit, LIMIT.windowMs));
  return {
    name: "plain pg",
    async get(key) {
      const { rows } = await get([thingKey(loss, key)]);
      return rows[0] && decode(rows[0].value);
    },
    async getAll(keys) {
      const full = keys.map((key) => thingKey(loss, key));
      const { rows } = await getAll([full]);
      const found = new Map(rows.map(({ key, value }) => [key, value]));
      return full.map((key) => {
        const value = found.get(key);
        return value && decode(value);
      });
    },
    async set(key, value) {
      await set([thingKey(loss, key), encode(value), TTL_MS]);
    },
    async compareAndSet(key, from, to) {
      const { rowCount } = await compareAndSet([thingKey(loss, key), encode(from), encode(to), TTL_MS]);
      return rowCount === 1;
    },
    async take(key) {
      const partMs = LIMIT.windowMs / WINDOW_PARTS;
      const { rows } = await take([callsKey(key), 1, LIMIT.limit, partMs, LIMIT.windowMs + partMs]);
      return { isTaken: rows[0]?.is_taken === true };
    },
  };
}

/** The statement that our engine sends. */
async function textOf(database: Database, loss: Loss, ask: (engine: KvEngine) => Promise<unknown>): Promise<string> {
  const texts: string[] = [];
  const listening: Database = {
    ...database,
    async queryAll(statements) {
      texts.push(...statements.map(({ text }) => text));
      return [];
    },
  };
  await ask(postgresEngine(listening, loss === "durable" ? "kept" : "passing"));
  const [text, ...more] = texts;
  assert(text !== undefined && more.length === 0);
  return text;
}
