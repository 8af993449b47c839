import { NoteSchema } from "#contracts/polis/tasktest/v1/tasktest_pb.ts";
import { redisUrl } from "#platform/config/setting-types.ts";
import { limit, values } from "#platform/kv/kinds.ts";
import { createKv } from "#platform/kv/kv.ts";
import { postgresEngine } from "#platform/kv/postgres-engine.ts";
import { redisEngine } from "#platform/kv/redis-engine.ts";
import { connectionOf } from "#platform/postgres/connection-url.testing.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { createLog } from "#platform/telemetry/create-log.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

/** So many in any such window. */
export const CALLS = { limit: 25, windowMs: 1_000 };

const counters = values("drill.counter", NoteSchema, { loss: "durable" });
const codes = values("drill.code", NoteSchema, { loss: "durable", ttlMs: 600_000 });
const calls = limit("drill.calls", { ...CALLS, whenAway: "closed" });

/** What a process can be asked: one use of the store each, so that whoever asks knows which of them were answered. */
export type KvOperations = {
  /** Where a counter stands; 0 where it isn't there. */
  read(counter: string): Promise<number>;
  /** Counts on by one where it stands at `from`; false where it doesn't. */
  count(counter: string, from: number): Promise<boolean>;
  /** The same, and ends this process when PostgreSQL has said that it is done. */
  countAndDie(counter: string, from: number): Promise<boolean>;
  issue(code: string): Promise<boolean>;
  isIssued(code: string): Promise<boolean>;
  /** False where it isn't there, or another has used it. */
  use(code: string): Promise<boolean>;
  /** Whether one more call is let through. */
  take(key: string): Promise<boolean>;
  /** Whether Redis is reached. */
  isWhole(): Promise<boolean>;
};

export type KvProcess = { readonly operations: KvOperations; close(): Promise<void> };

/** The store in this process: DATABASE_URL says where its database is, REDIS_URL and REDIS_PREFIX where Redis is; without, there is none. */
export async function openKvProcess({
  DATABASE_URL = "",
  REDIS_URL = "",
  REDIS_PREFIX = "",
}: Readonly<Record<string, string | undefined>>): Promise<KvProcess> {
  const log = await createLog({ level: "warn", format: "json" });
  const metrics = new Metrics();
  const database = await openDatabase({ connection: connectionOf(DATABASE_URL), name: "kv", log, metrics });
  const url = redisUrl.parse(REDIS_URL);
  const redis = url && redisEngine({ connection: { url, tls: undefined, prefix: REDIS_PREFIX }, log });
  let last = "";
  const dieIf = (isDone: boolean, key: string): boolean => {
    if (isDone && key.endsWith(`:${last}`)) process.kill(process.pid, "SIGKILL");
    return isDone;
  };
  const engine = postgresEngine(database, "kept");
  const kept: typeof engine = {
    ...engine,
    add: async (key, ...write) => dieIf(await engine.add(key, ...write), key),
    compareAndSet: async (key, ...write) => dieIf(await engine.compareAndSet(key, ...write), key),
  };
  const kv = createKv({ kept, passing: redis ?? postgresEngine(database, "passing"), copies: redis, metrics });
  const [counter, code, call] = [kv.of(counters), kv.of(codes), kv.of(calls)];
  const note = (text: unknown) => ({ text: String(text) });
  const count = async (key: string, from: number): Promise<boolean> => {
    if (from === 0) return counter.add(key, note(1));
    const found = await counter.get(key);
    return found?.text === String(from) && (await counter.compareAndSet(key, found, note(from + 1)));
  };
  return {
    operations: {
      read: async (key) => Number((await counter.get(key))?.text ?? 0),
      count,
      countAndDie(key, from) {
        last = key;
        return count(key, from);
      },
      issue: (key) => code.add(key, note(key)),
      isIssued: async (key) => (await code.get(key)) !== undefined,
      async use(key) {
        const found = await code.get(key);
        return found !== undefined && (await code.compareAndSet(key, found, undefined));
      },
      take: async (key) => (await call.take(key)).isTaken,
      isWhole: async () => redis?.isReached ?? true,
    },
    async close() {
      await redis?.close();
      await database.close();
    },
  };
}
