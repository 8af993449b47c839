import { randomUUID } from "node:crypto";
import { describe, expect, test, vi } from "vitest";
import { WINDOW_PARTS } from "#platform/kv/engine.ts";
import { kvMigrations } from "#platform/kv/kv-engine.testing.ts";
import { forgetExpired, postgresEngine } from "#platform/kv/postgres-engine.ts";
import { testDatabase, waitingForLocks } from "#platform/postgres/database.testing.ts";

const database = await testDatabase({ migrations: [kvMigrations] });
const kept = postgresEngine(database, "kept");
const HOUR = 3_600_000;
/** A window in whose parts a test ends as surely as it began. */
const MONTH = 30 * 24 * HOUR;
const bytes = (text: string) => new Uint8Array(Buffer.from(text));

const isSomebodyWaiting = async (): Promise<boolean> => (await waitingForLocks(database)) > 0;

describe("who had to wait for a value that expired meanwhile finds it expired:", () => {
  test.each([
    ["adds it", true, (key: string) => kept.add(key, bytes("new"), HOUR), "new"],
    ["doesn't set it", false, (key: string) => kept.compareAndSet(key, bytes("old"), bytes("new"), HOUR), undefined],
    ["doesn't delete it", false, (key: string) => kept.compareAndSet(key, bytes("old"), undefined, undefined), undefined],
  ] as const)("%s", async (_, isDone, act, left) => {
    const key = randomUUID();
    await kept.set(key, bytes("old"), HOUR);
    const { acting } = await database.transaction(async (tx) => {
      await tx.query({ text: "SELECT FROM kept_values WHERE key = $1 FOR UPDATE", values: [key] });
      const acting = act(key);
      await vi.waitFor(async () => expect(await isSomebodyWaiting()).toBe(true), { timeout: 10_000, interval: 10 });
      await tx.query({ text: "UPDATE kept_values SET expires_at = clock_timestamp() WHERE key = $1", values: [key] });
      return { acting };
    });
    expect(await acting).toBe(isDone);
    const [value] = await kept.get([key]);
    expect(value && Buffer.from(value).toString()).toBe(left);
  });
});

describe("the counts of a limit", () => {
  /** As if so many parts of a month's window had gone by. */
  const pass = (key: string, parts: number) =>
    database.query({
      text: `UPDATE kept_windows SET parts = ARRAY(SELECT part - $2::bigint FROM unnest(parts) AS part),
               expires_at = expires_at - $2::bigint * $3::float8 * interval '1 ms' WHERE key = $1`,
      values: [key, parts, MONTH / WINDOW_PARTS],
    });
  const used = async (key: string) => {
    await forgetExpired(database);
    return (await kept.take(key, 0, 10, MONTH)).used;
  };
  const rows = async (key: string) => (await database.query({ text: "SELECT FROM kept_windows WHERE key = $1", values: [key] })).rowCount;

  test("are forgotten once none counts any more, and not before", async () => {
    const key = randomUUID();
    await kept.take(key, 1, 10, MONTH);
    await pass(key, WINDOW_PARTS);
    expect(await used(key)).toBe(1);
    expect(await kept.take(key, 2, 10, MONTH)).toMatchObject({ used: 3 });
    await pass(key, WINDOW_PARTS);
    expect([await used(key), await rows(key)]).toEqual([2, 1]);
    await pass(key, 1);
    expect([await used(key), await rows(key)]).toEqual([0, 0]);
  });

  test("don't count where they lie further ahead than a window, as a clock that was set back leaves them", async () => {
    const key = randomUUID();
    await kept.take(key, 10, 10, MONTH);
    await pass(key, -WINDOW_PARTS);
    expect(await used(key)).toBe(10);
    expect(await kept.take(key, 1, 10, MONTH)).toMatchObject({ isTaken: false, used: 10 });
    await pass(key, -1);
    expect(await kept.take(key, 0, 10, MONTH)).toEqual({ isTaken: false, used: 0, resetMs: 0 });
    expect(await kept.take(key, 10, 10, MONTH)).toMatchObject({ isTaken: true, used: 10 });
  });
});

test("who forgets what has expired passes by what another one has in hand", async () => {
  const [held, free] = ["held", "free"].map((name) => `${name} ${randomUUID()}`) as [string, string];
  const text = (table: string, more: string) => `SELECT key FROM kept_${table} WHERE key = ANY($1) ${more}`;
  const tables = ["values", "members", "feeds", "windows"];
  for (const key of [held, free]) {
    await kept.set(key, bytes("old"), HOUR);
    await kept.addMembers(key, ["old"], HOUR);
    await kept.addItems(key, [{ member: "old", score: 1 }], 1, HOUR);
    await kept.take(key, 1, 1, HOUR);
  }
  await database.queryAll(
    tables.map((table) => ({
      text: `UPDATE kept_${table} SET expires_at = now() - interval '1 hour' WHERE key = ANY($1)`,
      values: [[held, free]],
    })),
  );
  const left = async () => {
    const found = await database.queryAll(tables.map((table) => ({ text: text(table, ""), values: [[held, free]] })));
    return found.map(({ rows }) => rows.map(({ key }) => key));
  };
  await database.transaction(async (tx) => {
    for (const table of tables) await tx.query({ text: text(table, "FOR UPDATE"), values: [[held]] });
    await forgetExpired(database);
    expect(await left()).toEqual(tables.map(() => [held]));
  });
  await forgetExpired(database);
  expect(await left()).toEqual(tables.map(() => []));
});

test("who takes items from a feed waits for who has the feed in hand, as who adds to it does", async () => {
  const key = randomUUID();
  const items = ["a", "b"].map((member) => ({ member, score: 1 }));
  await kept.addItems(key, items, 10, HOUR);
  const { removing } = await database.transaction(async (tx) => {
    await tx.query({ text: "SELECT FROM kept_feeds WHERE key = $1 FOR NO KEY UPDATE", values: [key] });
    const removing = kept.removeItems(key, ["a"]);
    await vi.waitFor(async () => expect(await isSomebodyWaiting()).toBe(true), { timeout: 10_000, interval: 10 });
    return { removing };
  });
  await removing;
  expect(await kept.items(key, 10, undefined)).toEqual([items[1]]);
});
