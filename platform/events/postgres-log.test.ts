import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { keysOfFour as keys, logMigrations, plainEvent, testEventLog } from "#platform/events/event-log.testing.ts";
import { FencedError, type FetchedBatch, RecordRefusedError } from "#platform/events/event-log.ts";
import { postgresGroups } from "#platform/events/postgres-groups.ts";
import type { PostgresLog } from "#platform/events/postgres-log.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { decodeRecordBatch } from "#platform/events/record-batch.ts";
import { testDatabase, waitingForLocks } from "#platform/postgres/database.testing.ts";
import type { Database } from "#platform/postgres/database.ts";

const topic = { name: "t", partitions: 4, retentionMs: 3_600_000 };
const until = (check: () => void | Promise<void>): Promise<void> => vi.waitFor(check, { timeout: 10_000, interval: 10 });
const event = (key: string, eventId: string, payload = ""): EventRecord => plainEvent("t", key, eventId, payload);

describe("the log in PostgreSQL", async () => {
  const database = await testDatabase({ migrations: logMigrations, maxConnections: 10 });
  let log: PostgresLog;
  const logs: PostgresLog[] = [];
  const open = (on: Database = database): PostgresLog => {
    const opened = testEventLog(on);
    logs.push(opened);
    return opened;
  };

  beforeEach(async () => {
    await database.query({ text: "TRUNCATE topics, partitions, log, groups, positions, members, leases" });
    log = open();
    await log.ensureTopics([topic]);
  });
  afterEach(async () => {
    await Promise.all(logs.splice(0).map((one) => one.close()));
  });

  /** The event ids of each partition in the order of offsets; fails where an offset is missing or there twice. */
  async function stored(): Promise<string[][]> {
    const { rows } = await database.query<{ partition: number; last_offset: bigint; count: number; records: Buffer }>({
      text: "SELECT p.partition, l.last_offset, l.count, l.records FROM log l JOIN partitions p ON p.id = l.partition_id ORDER BY l.last_offset",
    });
    const partitions: string[][] = [[], [], [], []];
    for (const { partition, last_offset, count, records } of rows) {
      const ids = partitions[partition] as string[];
      expect(Number(last_offset)).toBe(ids.length + count - 1);
      ids.push(...decodeRecordBatch(records).map((record) => record.eventId));
    }
    return partitions;
  }

  test("keeps records in order without gaps, however many append at once", async () => {
    const appenders = [log, open(), open()];
    await Promise.all(
      appenders.map(async (appender, a) => {
        for (let n = 0; n < 30; n++)
          await appender.publish(
            keys.map((key) => event(key, `${a} ${n}`)),
            { durable: n % 2 === 0 },
          );
      }),
    );
    for (const ids of await stored()) {
      expect(ids.length).toBe(90);
      for (const a of [0, 1, 2])
        expect(ids.filter((id) => id.startsWith(`${a} `))).toEqual(Array.from({ length: 30 }, (_, n) => `${a} ${n}`));
    }
  });

  test("refuses what it will never take, and appends nothing of it", async () => {
    const large = event("k", "large", "x".repeat(300_000));
    await expect(log.publish([event("k", "good"), large])).rejects.toThrow(RecordRefusedError);
    await expect(log.publish([{ ...event("k", "lost"), topic: "unknown" }])).rejects.toMatchObject({ record: { eventId: "lost" } });
    expect((await stored()).flat()).toEqual([]);
    await expect(log.ensureTopics([{ ...topic, partitions: 8 }])).rejects.toThrow(
      "topic t has 4 partitions in the log and 8 in the contract",
    );
  });

  test("takes the locks of an append in the order of partitions, whatever the order of its records", async () => {
    const { rows } = await database.query<{ id: number }>({ text: "SELECT id FROM partitions ORDER BY id" });
    const [first, ...others] = rows.map(({ id }) => id);
    // So that it lies last in the table: whoever locked rows as he finds them would have the others by then.
    await database.query({ text: "UPDATE partitions SET next_offset = next_offset WHERE id = $1", values: [first] });
    let appended: Promise<void> = Promise.resolve();
    await database.transaction(async (tx) => {
      await tx.query({ text: "SELECT FROM partitions WHERE id = $1 FOR UPDATE", values: [first] });
      appended = log.publish([...keys].reverse().map((key) => event(key, key)));
      await until(async () => expect(await waitingForLocks(database)).toBe(1));
      const free = await database.query<{ id: number }>({ text: "SELECT id FROM partitions ORDER BY id FOR UPDATE SKIP LOCKED" });
      expect(free.rows.map(({ id }) => id)).toEqual(others);
    });
    await appended;
    expect(await stored()).toEqual(keys.map((key) => [key]));
  });

  test("says so when it was made anew and something wasn't kept, and then goes on", async () => {
    await log.publish([event("k", "before")]);
    await database.query({ text: "TRUNCATE topics, partitions, log, positions" });
    await open().ensureTopics([topic]);
    await expect(log.publish([event("k", "lost")])).rejects.toThrow("made anew");
    await log.publish([event("k", "after")]);
    expect((await stored()).flat()).toEqual(["after"]);
  });

  /** A view of the database that counts what is read of the log. */
  const counting = (): { on: Database; fetches: () => number } => {
    let fetches = 0;
    const on: Database = {
      ...database,
      query(statement) {
        if (statement.name === "log fetch") fetches += 1;
        return database.query(statement);
      },
    };
    return { on, fetches: () => fetches };
  };

  test("hands what this process appends to its own groups without reading it back", async () => {
    const { on, fetches } = counting();
    const here = open(on);
    const seen: string[] = [];
    const handle = async ({ records }: FetchedBatch): Promise<void> => void seen.push(...records.map((record) => record.eventId));
    await here.subscribe({ group: "g", topics: ["t"], handle });
    for (let n = 0; n < 20; n++) {
      await here.publish([event("k", String(n)), event("k", `${n} too`)]);
      await until(() => expect(seen).toHaveLength(2 * n + 2));
    }
    expect(seen).toEqual(Array.from({ length: 20 }, (_, n) => [String(n), `${n} too`]).flat());
    // A look that falls between an append and its hand-over reads; without hand-overs each append is read.
    expect(fetches()).toBeLessThan(5);
    await until(async () => expect((await here.lag()).map((lag) => Number(lag.events))).toEqual([0, 0, 0, 0]));
  });

  test("reads what lies between what it knows and what was appended here", async () => {
    const here = open();
    const elsewhere = open();
    const seen: string[] = [];
    const first = Promise.withResolvers<void>();
    await here.subscribe({
      group: "g",
      topics: ["t"],
      async handle({ records }) {
        await first.promise;
        seen.push(...records.map((record) => record.eventId));
      },
    });
    const [key = ""] = keys;
    for (const [n, appender] of [here, here, elsewhere, here, elsewhere, here].entries()) await appender.publish([event(key, String(n))]);
    first.resolve();
    await until(() => expect(seen).toEqual(["0", "1", "2", "3", "4", "5"]));
  });

  test("hands over nothing without the lease: a crash of the server took it, and with it perhaps what was appended", async () => {
    const { on, fetches } = counting();
    const here = open(on);
    const seen: string[] = [];
    await here.subscribe({
      group: "g",
      topics: ["t"],
      handle: async ({ records }) => void seen.push(...records.map((record) => record.eventId)),
    });
    await database.query({ text: "TRUNCATE leases" });
    await here.publish([event("k", "a")]);
    await until(() => expect(seen).toEqual(["a"]));
    expect(fetches()).toBeGreaterThan(0);
  });

  test("shares partitions among members, hands them over when one stops, and none twice at a time", async () => {
    const handled: string[] = [];
    const busy = new Set<number>();
    const member = (name: string) => ({
      group: "g",
      topics: ["t"],
      async handle({ records, assignment }: FetchedBatch) {
        expect(busy.has(assignment.partition)).toBe(false);
        busy.add(assignment.partition);
        await new Promise((resolve) => setTimeout(resolve, 2));
        busy.delete(assignment.partition);
        handled.push(...records.map((record) => `${name} ${assignment.partition} ${record.eventId}`));
      },
    });
    const holders = async (): Promise<number[]> => {
      const { rows } = await database.query<{ held: number }>({
        text: "SELECT count(*)::int AS held FROM leases GROUP BY member ORDER BY 1",
      });
      return rows.map((row) => row.held);
    };
    await log.subscribe(member("a"));
    await until(async () => expect(await holders()).toEqual([4]));
    const second = open();
    await second.subscribe(member("b"));
    await until(async () => expect(await holders()).toEqual([2, 2]));
    for (let n = 0; n < 20; n++) await log.publish(keys.map((key) => event(key, String(n))));
    await until(() => expect(new Set(handled.map((line) => line[0]))).toEqual(new Set(["a", "b"])));
    await second.close();
    for (let n = 20; n < 40; n++) await log.publish(keys.map((key) => event(key, String(n))));
    await until(() => {
      for (const partition of [0, 1, 2, 3]) {
        const ids = handled.filter((line) => line.split(" ")[1] === String(partition)).map((line) => Number(line.split(" ")[2]));
        expect(ids).toEqual(Array.from({ length: 40 }, (_, n) => n));
      }
    });
    expect(await holders()).toEqual([4]);
  });

  test("gives a frozen member's partitions to another, and takes no position from the frozen one", async () => {
    const thaw = Promise.withResolvers<void>();
    let frozen = false;
    const freezing: Database = {
      ...database,
      query: async (statement) => {
        if (frozen) await thaw.promise;
        return database.query(statement);
      },
      transaction: async (run, options) => {
        if (frozen) await thaw.promise;
        return database.transaction(run, options);
      },
    };
    const first: FetchedBatch[] = [];
    const inHand = Promise.withResolvers<void>();
    await open(freezing).subscribe({
      group: "g",
      topics: ["t"],
      async handle(batch) {
        first.push(batch);
        frozen = true;
        inHand.resolve();
        await thaw.promise;
      },
    });
    await log.publish([event("k", "a")]);
    await inHand.promise;
    const second: FetchedBatch[] = [];
    let holdUp: Promise<void> | undefined = thaw.promise;
    await log.subscribe({
      group: "g",
      topics: ["t"],
      async handle(batch) {
        second.push(batch);
        await holdUp;
        if (holdUp !== undefined) {
          holdUp = undefined;
          throw new Error("once more");
        }
      },
    });
    await until(() => expect(second.length).toBe(1));
    const [before, after] = [first[0]?.assignment, second[0]?.assignment];
    expect(after?.partition).toBe(before?.partition);
    thaw.resolve();
    frozen = false;
    await until(() => expect(before?.signal.aborted).toBe(true));
    await expect(before?.confirm()).rejects.toThrow(FencedError);
    await after?.confirm();
    // Had the frozen one's position counted, the second's batch wouldn't have come again.
    await until(() => expect(second.map((batch) => batch.records.map((record) => record.eventId))).toEqual([["a"], ["a"]]));
  });

  test("lets nobody go on from what was read before the server crashed", async () => {
    // What a crash does to unlogged tables, and to appends that didn't wait for the disk.
    const crash = async (): Promise<void> => {
      await database.query({ text: "TRUNCATE members, leases" });
      await database.query({ text: "DELETE FROM log" });
      await database.query({ text: "UPDATE partitions SET next_offset = 0" });
    };
    const seen: string[] = [];
    const crashed = Promise.withResolvers<void>();
    let first = true;
    await log.subscribe({
      group: "g",
      topics: ["t"],
      async handle({ records }) {
        if (first) {
          first = false;
          await crash();
          crashed.resolve();
        }
        seen.push(...records.map((record) => record.eventId));
      },
    });
    await log.publish(
      ["a", "b"].map((id) => event("k", id)),
      { durable: false },
    );
    await crashed.promise;
    await log.publish(["b", "c", "a", "d"].map((id) => event("k", id)));
    await until(() => expect(seen).toEqual(["a", "b", "b", "c", "a", "d"]));
  });

  const groups = postgresGroups(database);

  test("prunes what is past its retention and behind every group, and nothing else", async () => {
    await log.ensureTopics([{ ...topic, retentionMs: 1 }]);
    await log.publish([event("k", "a"), event("k", "b")]);
    await database.query({ text: "INSERT INTO groups (name) VALUES ('gone')" });
    await database.query({ text: "INSERT INTO positions (group_id, partition_id) SELECT g.id, p.id FROM groups g, partitions p" });
    const seen: string[] = [];
    const subscription = await log.subscribe({
      group: "g",
      topics: ["t"],
      handle: async ({ records }) => void seen.push(...records.map((record) => record.eventId)),
    });
    await until(() => expect(seen).toEqual(["a", "b"]));
    await until(async () => expect((await log.lag()).filter((lag) => lag.group === "g" && lag.events > 0n)).toEqual([]));
    expect(await log.prune()).toBe(0);
    expect(await groups.list()).toEqual([
      { group: "g", lag: 0n, members: 1 },
      { group: "gone", lag: 2n, members: 0 },
    ]);
    await expect(groups.drop("g")).rejects.toThrow("is being run");
    await groups.drop("gone");
    expect(await log.prune()).toBe(1);
    await log.publish([event("k", "c")]);
    await until(() => expect(seen).toEqual(["a", "b", "c"]));
    await subscription.stop();
    await until(async () => {
      await groups.drop("g");
    });
  });
});
