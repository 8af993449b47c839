import { randomUUID } from "node:crypto";
import { createClient, ErrorReply } from "@redis/client";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { authority, certificateFolder } from "#platform/config/certificates.testing.ts";
import { redisUrl } from "#platform/config/setting-types.ts";
import { KvUnavailable } from "#platform/kv/engine.ts";
import { isRedisThere, testRedis } from "#platform/kv/redis.testing.ts";
import { openRedis, type RedisConnection, type RedisSession } from "#platform/kv/redis-connection.ts";
import { testLog } from "#platform/postgres/database.testing.ts";
import { namesAsked } from "#platform/process/engine-tls.testing.ts";
import type { Log } from "#platform/telemetry/log.ts";
import { loggedLines } from "#platform/telemetry/logged-lines.testing.ts";

const WRONG_IN_SCRIPT = "ERR Error running script (call to f_1): @user_script:3: WRONGTYPE Operation against a key holding the wrong kind";

const untilReached = async (session: RedisSession): Promise<void> => {
  while (!session.isReached) await new Promise((resolve) => setTimeout(resolve, 2));
};

async function open(connection: RedisConnection, log: Log = testLog): Promise<RedisSession> {
  const session = openRedis({ connection, log });
  onTestFinished(() => session.close());
  await untilReached(session);
  return session;
}

test("a connection to a Redis whose URL says TLS is encrypted, also where no certificates are named", async () => {
  const { port } = await namesAsked(authority(certificateFolder(), "ours").sign("localhost"));
  const { log, logged } = loggedLines();
  const url = redisUrl.parse(`rediss://localhost:${port}`)!;
  const session = openRedis({ connection: { url, tls: undefined, prefix: "" }, log });
  onTestFinished(() => session.close());
  // It has read what that is shown, and knows nobody who signed it.
  await vi.waitFor(() => expect(logged[0]?.err?.message).toMatch("unable to verify the first certificate"), 10_000);
});

describe.skipIf(!isRedisThere)("a connection to Redis", () => {
  let other: ReturnType<typeof createClient>;
  beforeAll(async () => {
    other = createClient({ url: process.env.REDIS_URL ?? "" });
    await other.connect();
  });
  afterAll(() => other.close());

  describe("of which an answer is waited for", () => {
    /** A question that Redis answers when the test says so; it answers in the order in which it was asked. */
    const ask = (session: RedisSession) => {
      const key = `test:${randomUUID()}`;
      return { asked: session.run((on) => on.blPop(key, 0)), answer: () => other.rPush(key, "answer") };
    };
    /** Moves the clock by which a connection tells that Redis is silent; the others go on. */
    const holdClock = () => {
      vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] });
      onTestFinished(() => void vi.useRealTimers());
    };

    test("stays while one answer follows the other, and is given up when they end, by all who still wait", async () => {
      holdClock();
      const session = await open(testRedis());
      const [first, second, third, fourth] = [ask(session), ask(session), ask(session), ask(session)];
      for (const { asked, answer } of [first, second, third]) {
        vi.advanceTimersByTime(900);
        await answer();
        await asked;
      }
      vi.advanceTimersByTime(900);
      expect([session.isReached, session.connection]).toEqual([true, 1]);
      vi.advanceTimersByTime(350);
      expect(session.isReached).toBe(false);
      await expect(fourth.asked).rejects.toBeInstanceOf(KvUnavailable);
    });

    test("is followed by one that owes nothing of what that was asked, and all of what it is asked itself", async () => {
      holdClock();
      const session = await open(testRedis());
      const lost = [ask(session), ask(session)].map(({ asked }) => expect(asked).rejects.toBeInstanceOf(KvUnavailable));
      vi.advanceTimersByTime(1_250);
      await Promise.all(lost);
      await untilReached(session);
      await session.run((on) => on.ping());
      vi.advanceTimersByTime(5_000);
      expect([session.isReached, session.connection]).toEqual([true, 2]);

      const [first, second] = [ask(session), ask(session)];
      await first.answer();
      await first.asked;
      vi.advanceTimersByTime(1_250);
      expect(session.isReached).toBe(false);
      await expect(second.asked).rejects.toBeInstanceOf(KvUnavailable);
    });
  });

  test("throws what no waiting mends, in Redis' words", async () => {
    const connection = testRedis();
    const { run } = await open(connection);
    const key = `${connection.prefix}text`;
    await run((on) => on.set(key, "text", { PX: 60_000 }));
    const failing: [RegExp, () => Promise<unknown>][] = [
      [/^WRONGTYPE /, () => run((on) => on.hGet(key, "field"))],
      [/^WRONGTYPE /, () => run((on) => on.take(key, "1", "1", "1000"))],
      [/^ERR unknown command/, () => run((on) => on.sendCommand(["NONE"]))],
      // As Redis 6 tells of it.
      [/WRONGTYPE/, () => run((on) => on.eval("return redis.error_reply(ARGV[1])", { arguments: [WRONG_IN_SCRIPT] }))],
    ];
    for (const [words, ask] of failing) {
      const error: unknown = await ask().catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(ErrorReply);
      expect(error).toHaveProperty("message", expect.stringMatching(words));
    }
  });

  test("throws a fault of ours as it is, which is no absence of Redis'", async () => {
    const { run } = await open(testRedis());
    await expect(run((on) => on.sendCommand(["GET", 1 as unknown as string]))).rejects.toBeInstanceOf(TypeError);
    await expect(run(() => Promise.reject(new RangeError("too large")))).rejects.toBeInstanceOf(RangeError);
    expect(await run((on) => on.ping())).toBe("PONG");
  });

  test.each([
    ["a wrong password", { user: { name: "default", password: "guess" } }, /^WRONGPASS/],
    ["a database that there isn't", { database: 9_999 }, /^ERR DB index is out of range/],
  ])("that is refused for %s is told as such, and tried again", async (_, wrong, words) => {
    const { log, logged } = loggedLines();
    const connection = testRedis();
    const session = openRedis({ connection: { ...connection, url: { ...connection.url, ...wrong } }, log });
    onTestFinished(() => session.close());
    await vi.waitFor(() => expect(logged).toHaveLength(1), 10_000);
    expect(logged).toMatchObject([
      { msg: "Redis won't have us; what it holds is done without until that changes", err: { message: expect.stringMatching(words) } },
    ]);
    expect(session.isReached).toBe(false);
  });

  test("takes a Redis that refuses for one that is away, warns of it once in a while, and stays", async () => {
    const user = `test-${randomUUID()}`;
    await other.sendCommand(["ACL", "SETUSER", user, "on", ">word", "~*", "+@all", "-set", "-hincrby"]);
    onTestFinished(async () => void (await other.sendCommand(["ACL", "DELUSER", user])));
    const connection = testRedis();
    const url = { ...connection.url, user: { name: user, password: "word" } };
    const { log, logged } = loggedLines();
    const session = await open({ ...connection, url }, log);
    const key = `${connection.prefix}key`;
    const scriptSays = (words: string) => session.run((on) => on.eval("return redis.error_reply(ARGV[1])", { arguments: [words] }));
    const refused: [RegExp, () => Promise<unknown>][] = [
      [/^NOPERM /, () => session.run((on) => on.set(key, "text"))],
      [/^ERR (The user executing the script|ACL failure in script)/, () => session.run((on) => on.take(key, "1", "1", "1000"))],
      // As Redis 6 tells of whatever stops a script, and one since 7.2 of rights.
      [/maxmemory/, () => scriptSays("ERR Error running script (call to f_1): @user_script:3: -OOM … when used memory > 'maxmemory'.")],
      [/'hincrby'/, () => scriptSays("ERR ACL failure in script: User test has no permissions to run the 'hincrby' command")],
    ];
    for (const [words, ask] of refused) {
      const error: unknown = await ask().catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(KvUnavailable);
      expect(error).toHaveProperty("cause.message", expect.stringMatching(words));
    }
    expect(logged.map(({ msg, redis }) => [msg, redis])).toEqual([
      ["Redis refuses; what it holds is done without", `${url.host}:${url.port}`],
    ]);
    expect([session.isReached, session.connection]).toEqual([true, 1]);
  });
});
