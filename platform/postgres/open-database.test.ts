import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { ClientConfig } from "pg";
import { afterAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { wasCommitted } from "#platform/postgres/commit-outcome.ts";
import { ConnectionLimit } from "#platform/postgres/connection-limit.ts";
import { connectionOf } from "#platform/postgres/connection-url.testing.ts";
import { testDatabase, testDatabaseConnection, testLog, testServer } from "#platform/postgres/database.testing.ts";
import type { Database, Sql, Transaction } from "#platform/postgres/database.ts";
import { isConnectionLost, isDataError, isGivenUpWaiting, isUniqueViolation, OutcomeUnknown } from "#platform/postgres/errors.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const database = await testDatabase();
await database.query({ text: "CREATE TABLE t (id integer PRIMARY KEY, n bigint NOT NULL DEFAULT 0, CHECK (n >= 0))" });
const insert = (id: number) => ({ text: "INSERT INTO t (id) VALUES ($1)", values: [id], name: "insert t" });
const ids = async (): Promise<number[]> =>
  (await database.query<{ id: number }>({ text: "SELECT id FROM t ORDER BY id" })).rows.map(({ id }) => id);
const read = async (sql: string): Promise<unknown> => (await database.query<{ v: unknown }>({ text: `SELECT ${sql} AS v` })).rows[0]?.v;

/** A fresh database with one connection, which whatever follows a failure has to use. */
const single = async (settings: ClientConfig = {}): Promise<Database> =>
  openDatabase({
    connection: { ...(await testDatabaseConnection()), ...settings },
    name: "one",
    maxConnections: 1,
    log: testLog,
    metrics: new Metrics(),
  });

describe("values", () => {
  test("a bigint stays a bigint, alone and in arrays", async () => {
    expect(await read("9223372036854775807::bigint")).toBe(9223372036854775807n);
    expect(await read("ARRAY[1, NULL, -9223372036854775808]::bigint[]")).toEqual([1n, null, -9223372036854775808n]);
    expect(await read("count(*)")).toBe(1n);
  });

  test.each([
    ["2026-11-21 04:15:16.123456+00", 1795234516n, 123456000],
    ["2026-11-21 04:15:16+00", 1795234516n, 0],
    ["1969-12-31 23:59:59.5+00", -1n, 500000000],
    ["0001-01-02 00:00:00+00", -62135510400n, 0],
    ["9999-12-31 23:59:59.999999+00", 253402300799n, 999999000],
  ])("timestamptz %s is a Timestamp with its microseconds, in any time zone of the session", async (text, seconds, nanos) => {
    expect(await read(`'${text}'::timestamptz`)).toEqual({ $typeName: "google.protobuf.Timestamp", seconds, nanos });
    await database.transaction(async (tx) => {
      await tx.query({ text: "SET LOCAL TimeZone = 'America/St_Johns'" });
      const { rows } = await tx.query({ text: `SELECT '${text}'::timestamptz AS v` });
      expect(rows[0]?.v).toEqual({ $typeName: "google.protobuf.Timestamp", seconds, nanos });
    });
  });

  test("a timestamptz that no Timestamp can hold is refused, and the connection goes on", async () => {
    await expect(read("'infinity'::timestamptz")).rejects.toThrow(RangeError);
    expect(await read("1")).toBe(1);
  });

  test("bytes come as a Buffer and go as any Uint8Array", async () => {
    const bytes = new Uint8Array([0, 1, 255, 92, 34]);
    const { rows } = await database.query<{ a: Buffer; b: Buffer[] }>({
      text: "SELECT $1::bytea AS a, $2::bytea[] AS b",
      values: [bytes, [bytes, new Uint8Array()]],
    });
    expect(rows[0]?.a).toEqual(Buffer.from(bytes));
    expect(rows[0]?.b).toEqual([Buffer.from(bytes), Buffer.alloc(0)]);
  });

  test("texts come back as they went, in arrays too", async () => {
    const texts = ['a"b', "back\\slash", "{,}", "NULL", "", "привет 🙂"];
    const { rows } = await database.query({ text: "SELECT $1::text[] AS a, $2::jsonb AS j", values: [texts, { texts }] });
    expect(rows[0]).toEqual({ a: texts, j: { texts } });
  });
});

describe("a transaction", () => {
  test("is committed when its function returns, and taken back when it throws", async () => {
    await database.transaction((tx) => tx.query(insert(1)));
    await expect(
      database.transaction(async (tx) => {
        await tx.query(insert(2));
        throw new Error("no");
      }),
    ).rejects.toThrow("no");
    expect(await ids()).toEqual([1]);
  });

  test("sends the last statements with COMMIT; the first that fails takes all back and is thrown", async () => {
    await database.transaction((tx) => tx.commit([insert(10), insert(11)]));
    const failing = database.transaction((tx) =>
      tx.commit([insert(12), insert(10), { text: "INSERT INTO t VALUES (13, -1)" }, insert(14)]),
    );
    await expect(failing).rejects.toSatisfy(isUniqueViolation);
    expect(await ids()).toEqual([1, 10, 11]);
  });

  test("commits nothing when a value can't be sent", async () => {
    const failing = database.transaction((tx) => tx.commit([insert(20), { text: "SELECT $1", values: [{ n: 1n }] }]));
    await expect(failing).rejects.toThrow(TypeError);
    expect(await ids()).not.toContain(20);
  });

  test("may use one name for two texts", async () => {
    await database.transaction((tx) =>
      tx.commit([{ ...insert(21) }, { name: "insert t", text: "INSERT INTO t (id, n) VALUES ($1, 5)", values: [22] }]),
    );
    expect(await ids()).toEqual(expect.arrayContaining([21, 22]));
  });

  test("isn't reported as committed when a failure in it was swallowed", async () => {
    const swallowing = database.transaction(async (tx) => {
      await tx.query(insert(30));
      await tx.query(insert(30)).catch(() => undefined);
    });
    await expect(swallowing).rejects.toThrow("rolled back");
    expect(await ids()).not.toContain(30);
  });

  test("goes on behind a savepoint after a failure", async () => {
    await database.transaction(async (tx) => {
      await tx.query({ text: "SAVEPOINT a" });
      await expect(tx.query({ text: "INSERT INTO t VALUES (40, -1)" })).rejects.toSatisfy(isDataError);
      await tx.query({ text: "ROLLBACK TO SAVEPOINT a" });
      await tx.commit([insert(41)]);
    });
    expect(await ids()).toContain(41);
  });

  test("behind a failure sends nothing on, and what was to be prepared there is prepared the next time", async () => {
    const one = await single();
    const good = { name: "good", text: "SELECT 7 AS v" };
    const failing = { name: "failing", text: "SELECT 1 / $1::int AS v", values: [0] };
    const together = one.transaction((tx) => Promise.allSettled([failing, good, good].map((statement) => tx.query(statement))));
    await expect(together).rejects.toThrow("rolled back");
    await expect(one.transaction((tx) => tx.commit([failing, good]))).rejects.toSatisfy(isDataError);
    for (let i = 0; i < 2; i++) {
      const answers = await one.transaction((tx) => Promise.all([good, { ...failing, values: [1] }, good].map((each) => tx.query(each))));
      expect(answers.map(({ rows }) => rows)).toEqual([[{ v: 7 }], [{ v: 1 }], [{ v: 7 }]]);
    }
    await one.close();
  });

  test("that nobody waits for to commit is waited for all the same", async () => {
    await database.transaction(async (tx) => void tx.commit([insert(42)]));
    expect(await ids()).toContain(42);
    await expect(database.transaction(async (tx) => void tx.commit([insert(42)]))).rejects.toSatisfy(isUniqueViolation);
  });

  test("prepares a statement anew where it doesn't fit its tables any more", async () => {
    const one = await single();
    await one.query({ text: "CREATE TABLE t (v integer)" });
    await one.query({ text: "INSERT INTO t VALUES (1)" });
    const read = { name: "read", text: "SELECT v FROM t" };
    expect((await one.query(read)).rows).toEqual([{ v: 1 }]);
    await one.query({ text: "ALTER TABLE t ALTER v TYPE text" });
    await one.query(read).catch(() => undefined);
    expect((await one.query(read)).rows).toEqual([{ v: "1" }]);
    await one.close();
  });

  test("refuses COPY, and the next statement gets another connection", async () => {
    const one = await single();
    await one.query({ text: "CREATE TABLE t (id integer)" });
    await expect(one.query({ text: "COPY t FROM STDIN" })).rejects.toThrow("COPY");
    await expect(
      one.transaction((tx) => Promise.all([tx.query({ text: "COPY t FROM STDIN" }), tx.query({ text: "SELECT 1" })])),
    ).rejects.toThrow("COPY");
    await one.query({ text: "COPY t TO STDOUT" });
    expect((await one.query({ text: "SELECT 1 AS v" })).rows).toEqual([{ v: 1 }]);
    await one.close();
  });

  test("takes no statement after its end", async () => {
    let leaked: Transaction | undefined;
    await database.transaction(async (tx) => {
      leaked = tx;
    });
    await expect(leaked?.query({ text: "SELECT 1" })).rejects.toThrow("over");
  });

  test("runs statements in the order in which they were sent, whatever they are", async () => {
    const order = await database.transaction(async (tx) => {
      const sent = [
        "SELECT 1 AS v",
        "UPDATE t SET n = n WHERE id = -1 RETURNING 2 AS v",
        "SELECT 3 AS v",
        "WITH x AS (SELECT 4 AS v) SELECT * FROM x",
      ];
      const done: number[] = [];
      await Promise.all(sent.map((text, i) => tx.query({ text }).then(() => done.push(i))));
      return done;
    });
    expect(order).toEqual([0, 1, 2, 3]);
  });

  test("waits no longer for a lock than it is told to, and leaves its session as patient as it was", async () => {
    const one = await single();
    const patience = async (of: Sql) => (await of.query<{ lock_timeout: string }>({ text: "SHOW lock_timeout" })).rows[0]?.lock_timeout;
    const usual = await patience(one);
    expect(await one.transaction(patience, { lockPatienceMs: 40 })).toBe("40ms");
    expect(await patience(one)).toBe(usual);
    expect(await one.transaction(patience)).toBe(usual);
    await one.close();
  });

  test("is run again after a deadlock, until both are done", async () => {
    await database.query({ text: "INSERT INTO t (id) VALUES (50), (51)" });
    let tries = 0;
    let holders = 0;
    const bothHold = Promise.withResolvers<void>();
    const add = (first: number, second: number) =>
      database.transaction(async (tx) => {
        tries += 1;
        await tx.query({ text: "UPDATE t SET n = n + 1 WHERE id = $1", values: [first] });
        holders += 1;
        if (holders === 2) bothHold.resolve();
        await bothHold.promise;
        await tx.query({ text: "UPDATE t SET n = n + 1 WHERE id = $1", values: [second] });
      });
    await Promise.all([add(50, 51), add(51, 50)]);
    // More often where the one that was taken back has its row again before the other wakes.
    expect(tries).toBeGreaterThanOrEqual(3);
    expect((await database.query({ text: "SELECT n FROM t WHERE id IN (50, 51)" })).rows).toEqual([{ n: 2n }, { n: 2n }]);
  });

  test.each(["40001", "40P01", "26000"])(
    "that is committed isn't run again, though %s ends what comes behind its COMMIT",
    async (state) => {
      const one = await single();
      await one.query({ text: "CREATE TABLE balance AS SELECT 0 AS minor" });
      const add = { text: "UPDATE balance SET minor = minor + 1" };
      /** On another database: its failure says nothing of this transaction. */
      const fail = () => database.query({ text: `DO $$ BEGIN RAISE SQLSTATE '${state}'; END $$` });
      const waited = one.transaction(async (tx) => {
        await tx.commit([add]);
        await fail();
      });
      await expect(waited).rejects.toMatchObject({ code: state });
      const notWaited = one.transaction(async (tx) => {
        void tx.commit([add]);
        await fail();
      });
      await expect(notWaited).rejects.toMatchObject({ code: state });
      expect((await one.query({ text: "SELECT minor FROM balance" })).rows).toEqual([{ minor: 2 }]);
      await one.close();
    },
  );

  test("waits for the disk unless told otherwise, and only then", async () => {
    const setting = (durable: boolean) =>
      database.transaction(async (tx) => (await tx.query({ text: "SELECT current_setting('synchronous_commit') AS v" })).rows[0]?.v, {
        durable,
      });
    await database.query({
      text: `ALTER ROLE CURRENT_USER IN DATABASE ${String(await read("current_database()"))} SET synchronous_commit = on`,
    });
    const fresh = await openDatabase({
      connection: { ...testServer(), database: String(await read("current_database()")) },
      name: "fresh",
      log: testLog,
      metrics: new Metrics(),
    });
    const ofFresh = (durable: boolean) =>
      fresh.transaction(async (tx) => (await tx.query({ text: "SELECT current_setting('synchronous_commit') AS v" })).rows[0]?.v, {
        durable,
      });
    expect([await ofFresh(true), await ofFresh(false), await ofFresh(true)]).toEqual(["on", "off", "on"]);
    expect(await setting(false)).toBe("off");
    await fresh.close();
  });
});

describe("a connection that is lost", () => {
  const kill = (pid: unknown) => read(`pg_terminate_backend(${String(pid)})`);
  const pidOf = async (tx: Transaction) => (await tx.query({ text: "SELECT pg_backend_pid() AS pid" })).rows[0]?.pid;

  test("before COMMIT is known as such, and nothing was written", async () => {
    const lost = database.transaction(async (tx) => {
      await tx.query(insert(60));
      await kill(await pidOf(tx));
      await tx.commit([insert(61)]);
    });
    await expect(lost).rejects.toSatisfy(isConnectionLost);
    expect(await ids()).not.toContain(60);
  });

  test("is nobody's any more once the server has ended the session, or hasn't answered in time", async () => {
    const one = await single({ query_timeout: 300 });
    for (const ending of ["SELECT pg_terminate_backend(pg_backend_pid())", "SELECT pg_sleep(2)"]) {
      const [ended, next] = await Promise.allSettled([one.query({ text: ending }), one.query({ text: "SELECT 1 AS v" })]);
      expect(ended.status === "rejected" && isConnectionLost(ended.reason)).toBe(true);
      expect(next).toMatchObject({ value: { rows: [{ v: 1 }] } });
    }
    await one.close();
  });

  test("is told as such where the server takes a statement and never answers, whatever limit the server has", async () => {
    const { proxied, muteAt } = await proxy(await testDatabaseConnection());
    onTestFinished(() => void vi.useRealTimers());
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const muted = muteAt("unheard");
    const told = expect(proxied.query({ text: "SELECT 'unheard'" })).rejects.toSatisfy(isConnectionLost);
    await muted;
    await vi.advanceTimersByTimeAsync(60_000);
    await told;
    expect((await proxied.query({ text: "SELECT 1 AS v" })).rows).toEqual([{ v: 1 }]);
    await proxied.close();
  });

  test("while it is idle is noticed, and the next statement gets another", async () => {
    await kill(await read("pg_backend_pid()")).catch(() => undefined);
    await vi.waitFor(async () => expect(await read("1")).toBe(1));
  });

  test("with the answer to COMMIT is no failure of the transaction: the server is asked", async () => {
    const { proxied, cutBeforeAnswerTo } = await proxy(await testDatabaseConnection());
    await proxied.query({ text: "CREATE TABLE t (id integer PRIMARY KEY)" });
    await proxied.transaction(async (tx) => {
      await tx.query(insert(70));
      cutBeforeAnswerTo("COMMIT");
      await tx.commit([insert(71)]);
    });
    expect((await proxied.query({ text: "SELECT id FROM t ORDER BY id" })).rows).toEqual([{ id: 70 }, { id: 71 }]);
    await proxied.close();
  });

  test.each([
    ["FATAL", "a statement before COMMIT", [insert(72)]],
    ["ERROR", "COMMIT", []],
  ])("is told of by a pooler in the server's stead, as %s at %s: the server is asked all the same", async (severity, _, last) => {
    // Not by a time limit either: the end of the connection tells.
    const { proxied, cutBeforeAnswerTo } = await proxy({ ...(await testDatabaseConnection()), query_timeout: 0 });
    await proxied.query({ text: "CREATE TABLE t (id integer PRIMARY KEY)" });
    await proxied.transaction(async (tx) => {
      await tx.query(insert(71));
      cutBeforeAnswerTo("COMMIT", errorMessage(severity, "08P01", "server conn crashed?"));
      await tx.commit(last);
    });
    expect((await proxied.query({ text: "SELECT id FROM t" })).rows).toHaveLength(1 + last.length);
    await proxied.close();
  });

  test("at the COMMIT of a transaction that the server knows nothing of any more leaves its outcome unknown", async () => {
    // 0 is older than all that a server remembers.
    await expect(wasCommitted({ xid: "0", epoch: "" }, database.query)).rejects.toBeInstanceOf(OutcomeUnknown);
  });

  test("is given up before the server is asked of a COMMIT that it broke off, so that a pool of one has another to ask with", async () => {
    const one = await single();
    await one.query({ text: "CREATE TABLE t (id integer)" });
    await one.query({
      text: `CREATE FUNCTION break_off() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN NULL; END'`,
    });
    await one.query({
      text: "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION break_off()",
    });
    await expect(one.transaction((tx) => tx.commit([insert(74)]))).rejects.toSatisfy(isGivenUpWaiting);
    expect((await one.query({ text: "SELECT id FROM t" })).rows).toEqual([]);
    await one.close();
  });

  test("with COMMIT itself is a failure, and nothing was written", async () => {
    const { proxied, cutAt } = await proxy(await testDatabaseConnection());
    await proxied.query({ text: "CREATE TABLE t (id integer PRIMARY KEY)" });
    const lost = proxied.transaction(async (tx) => {
      await tx.query(insert(70));
      cutAt("COMMIT");
      await tx.commit([insert(71)]);
    });
    await expect(lost).rejects.toSatisfy(isConnectionLost);
    expect((await proxied.query({ text: "SELECT id FROM t ORDER BY id" })).rows).toEqual([]);
    await proxied.close();
  });
});

describe("connections", () => {
  const open = async (limit: ConnectionLimit, name: string, metrics = new Metrics()): Promise<Database> =>
    openDatabase({
      connection: { ...(await testDatabaseConnection()), application_name: "limited" },
      name,
      limit,
      maxConnections: 4,
      log: testLog,
      metrics,
    });

  test("are as many as needed, no more than allowed, and one is kept idle", async () => {
    const metrics = new Metrics();
    const limited = await open(new ConnectionLimit(), "counted", metrics);
    const count = async (state: string) =>
      Number(new RegExp(`polis_pool_connections\\{database="counted",state="${state}"\\} (\\d+)`).exec(await metrics.text())?.[1]);
    const release = Promise.withResolvers<void>();
    let running = 0;
    const all = Promise.all(
      Array.from({ length: 6 }, () =>
        limited.transaction(async () => {
          running += 1;
          await release.promise;
        }),
      ),
    );
    await vi.waitFor(async () => expect([running, await count("used"), await count("waiting")]).toEqual([4, 4, 2]));
    release.resolve();
    await all;
    expect([await count("used"), await count("waiting")]).toEqual([0, 0]);
    await vi.waitFor(async () => expect(await count("idle")).toBe(1), { timeout: 5_000 });
    await limited.close();
    expect(await count("idle")).toBe(0);
  });

  test("of all databases together keep to the process's limit, and an idle one is closed for another database", async () => {
    const limit = new ConnectionLimit(2);
    const [a, b, c] = [await open(limit, "a"), await open(limit, "b"), await open(limit, "c")];
    const counts = await Promise.all(
      Array.from({ length: 30 }, async (_, i) => {
        const asked = [a, b, c][i % 3] as Database;
        const { rows } = await asked.query<{ n: bigint }>({
          text: "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'limited'",
        });
        return Number(rows[0]?.n);
      }),
    );
    expect(Math.max(...counts)).toBe(2);
    await Promise.all([a, b, c].map((each) => each.close()));
  });

  test("are taken again after the transaction failed in whatever way", async () => {
    const one = await single();
    const session = async () => (await one.query({ text: "SELECT pg_backend_pid() AS pid" })).rows[0]?.pid;
    const pid = await session();
    for (let i = 0; i < 5; i++) await expect(one.transaction((tx) => tx.query({ text: "SELECT 1 / 0" }))).rejects.toSatisfy(isDataError);
    for (let i = 0; i < 5; i++) await expect(one.transaction((tx) => tx.commit([{ text: "SELECT 1 / 0" }]))).rejects.toSatisfy(isDataError);
    await expect(
      one.transaction(() => {
        throw new Error("at once");
      }),
    ).rejects.toThrow("at once");
    await expect(one.query({ text: "SELECT 1 / 0" })).rejects.toSatisfy(isDataError);
    expect(await session()).toBe(pid);
    const closing = one.transaction(async (tx) => {
      const closed = one.close();
      await tx.query({ text: "SELECT 1" });
      return { closed };
    });
    await (await closing).closed;
    await expect(one.query({ text: "SELECT 1" })).rejects.toThrow("closed");
  });

  test.each([
    ["statements that leave it open", ["BEGIN"], true],
    ["statements that leave it open and fail", ["BEGIN", "SELECT 1 / 0"], false],
  ])("are nobody's any more after %s, though that is said last of all", async (_, texts, isAnswered) => {
    const { proxied: one } = await proxy(await testDatabaseConnection(), { comesInPieces: true, maxConnections: 1 });
    await one.query({ text: "CREATE TABLE t (id integer)" });
    const [left] = await Promise.allSettled([one.queryAll([...texts, "INSERT INTO t VALUES (1)"].map((text) => ({ text })))]);
    expect(left.status).toBe(isAnswered ? "fulfilled" : "rejected");
    // What was left open is taken back with its session, and nobody writes into it.
    expect((await one.query({ text: "SELECT id FROM t" })).rows).toEqual([]);
    await one.close();
  });

  test("are nobody's any more after a transaction whose COMMIT the session didn't know, which is run again on another", async () => {
    const one = await single();
    await one.query({ text: "CREATE TABLE t (id integer PRIMARY KEY)" });
    const insert = (id: number) => ({ text: "INSERT INTO t VALUES ($1)", values: [id] });
    await one.transaction((tx) => tx.commit([insert(1)]));
    let tries = 0;
    await one.transaction(async (tx) => {
      tries += 1;
      // A pooler that lends the session to another does that between two statements.
      if (tries === 1) await tx.query({ text: "DEALLOCATE ALL" });
      await tx.commit([insert(2)]);
    });
    expect(tries).toBe(2);
    expect((await one.query({ text: "SELECT id FROM t ORDER BY id" })).rows).toEqual([{ id: 1 }, { id: 2 }]);
    await one.close();
  });

  test("have time limits and one plan a statement, set on the database", async () => {
    const { rows } = await database.query({
      text: "SELECT current_setting('statement_timeout') AS s, current_setting('idle_in_transaction_session_timeout') AS i, current_setting('lock_timeout') AS l, current_setting('plan_cache_mode') AS p",
    });
    expect(rows).toEqual([{ s: "30s", i: "5s", l: "10s", p: "force_generic_plan" }]);
  });

  test("a server that isn't there is told by an error that is known", async () => {
    await expect(
      openDatabase({
        connection: { host: "127.0.0.1", port: 1, user: "x", password: "x" },
        name: "nowhere",
        log: testLog,
        metrics: new Metrics(),
      }),
    ).rejects.toSatisfy(isConnectionLost);
  });
});

test("databases of one server have one server id", async () => {
  const one = await single();
  expect(one.serverId).toBe(database.serverId);
  await one.close();
});

/** An error as a server, or a pooler before it, sends it (PostgreSQL, Message Formats). */
function errorMessage(severity: string, code: string, message: string): Buffer {
  const fields = Buffer.from(`S${severity}\0V${severity}\0C${code}\0M${message}\0\0`);
  const head = Buffer.from("E\0\0\0\0");
  head.writeInt32BE(fields.length + 4, 1);
  return Buffer.concat([head, fields]);
}

/** ReadyForQuery, which is the last of an answer, comes two turns of the event loop after what is before it. */
function writeInPieces(socket: Socket, data: Buffer): void {
  const end = data.at(-6) === 0x5a ? data.length - 6 : data.length;
  if (end > 0) socket.write(data.subarray(0, end));
  if (end < data.length) setImmediate(() => setImmediate(() => socket.write(data.subarray(end))));
}

/** A database behind a connection that can be cut at a chosen message. */
async function proxy(connection: ClientConfig, more: { readonly comesInPieces?: boolean; readonly maxConnections?: number } = {}) {
  const { comesInPieces = false, maxConnections = 4 } = more;
  let cutRequest: string | undefined;
  let cutAnswer: string | undefined;
  let lastWords: Buffer | undefined;
  let muteRequest: { readonly text: string; readonly met: () => void } | undefined;
  const { host = "", port: serverPort = 0 } = connection;
  const server = createServer((near) => {
    const far = host.startsWith("/") ? connect(`${host}/.s.PGSQL.${serverPort}`) : connect(serverPort, host);
    let isMute = false;
    const cut = () => {
      near.destroy();
      far.destroy();
    };
    near.on("data", (data) => {
      if (cutRequest !== undefined && data.includes(cutRequest)) {
        cutRequest = undefined;
        return cut();
      }
      if (cutAnswer !== undefined && data.includes(cutAnswer)) isMute = true;
      if (muteRequest !== undefined && data.includes(muteRequest.text)) {
        isMute = true;
        muteRequest.met();
      }
      far.write(data);
    });
    far.on("data", (data) => {
      if (!isMute) comesInPieces ? writeInPieces(near, data) : near.write(data);
      else if (cutAnswer !== undefined && data.includes(cutAnswer)) {
        cutAnswer = undefined;
        if (lastWords === undefined) cut();
        else near.end(lastWords);
      }
    });
    for (const socket of [near, far]) socket.on("error", () => undefined).on("close", cut);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  afterAll(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const proxied = await openDatabase({
    connection: { ...connection, host: "127.0.0.1", port },
    name: "proxied",
    maxConnections,
    log: testLog,
    metrics: new Metrics(),
  });
  return {
    proxied,
    cutAt: (text: string) => {
      cutRequest = text;
    },
    /** The connection on which this is said hears nothing any more; resolves when it was said. */
    muteAt: (text: string) => new Promise<void>((met) => (muteRequest = { text, met })),
    /** Says something else instead, where it is told to. */
    cutBeforeAnswerTo: (text: string, instead?: Buffer) => {
      cutAnswer = text;
      lastWords = instead;
    },
  };
}

describe.skipIf(process.env.POSTGRES_DIRECT_URL === undefined)("behind a pooler in transaction mode", () => {
  const pooled = connectionOf(process.env.POSTGRES_URL ?? "postgres://nowhere");

  test.each([true, false])(
    "of which it was told nothing (%s) or all, statements mean what they say, and none fails",
    async (preparesStatements) => {
      const { database } = await testDatabaseConnection();
      const open = () =>
        openDatabase({ connection: { ...pooled, database }, name: "pooled", preparesStatements, log: testLog, metrics: new Metrics() });
      const databases = [await open(), await open()];
      onTestFinished(async () => void (await Promise.all(databases.map((each) => each.close()))));
      await databases[0]?.query({ text: "CREATE TABLE t (who integer, n integer)" });
      // The same names of statements, in another order: what one has prepared is another statement of the other's.
      const work = databases.flatMap((each, who) =>
        Array.from({ length: 60 }, async (_, n) => {
          const [first, second] = who === 0 ? [1, 2] : [2, 1];
          const read = (plus: number) => each.query<{ v: number }>({ name: "read", text: `SELECT $1::int + ${plus} AS v`, values: [n] });
          expect((await read(first as number)).rows).toEqual([{ v: n + (first as number) }]);
          expect((await read(second as number)).rows).toEqual([{ v: n + (second as number) }]);
          await each.transaction(async (tx) => tx.commit([{ name: "write", text: "INSERT INTO t VALUES ($1, $2)", values: [who, n] }]));
        }),
      );
      await Promise.all(work);
      const { rows } =
        (await databases[0]?.query({
          text: "SELECT who, count(*)::int AS n, count(DISTINCT n)::int AS of FROM t GROUP BY who ORDER BY who",
        })) ?? {};
      expect(rows).toEqual([0, 1].map((who) => ({ who, n: 60, of: 60 })));
    },
  );
});
