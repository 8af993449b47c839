import { Client } from "pg";
import { afterAll, describe, expect, test } from "vitest";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { logMigrations, orderCreated, serviceMigrations, testEventLog } from "#platform/events/event-log.testing.ts";
import { topicsOf } from "#platform/events/event-types.ts";
import { uuidv7 } from "#platform/ids.ts";
import { deleteRows, outboxInsert, outboxRows, readRows, takeLease } from "#platform/outbox/outbox.ts";
import { testDatabaseConnection } from "#platform/postgres/database.testing.ts";
import type { Database } from "#platform/postgres/database.ts";
import { typeParsers } from "#platform/postgres/type-parsers.ts";

describe("a commit waits for the disk", async () => {
  const [connection, logConnection] = [await testDatabaseConnection(serviceMigrations), await testDatabaseConnection(logMigrations)];
  const clients: Client[] = [];
  afterAll(() => Promise.all(clients.map((client) => client.end())));

  /** A session that is as durable as one in life; the tests' server isn't. */
  async function durable(config: typeof connection): Promise<Client> {
    const client = new Client({ ...config, types: typeParsers });
    clients.push(client);
    await client.connect();
    await client.query("SET synchronous_commit = on");
    return client;
  }
  const sqlOf = (client: Client) =>
    ({
      serverId: "this server",
      query: async ({ text, values }: { text: string; values?: unknown[] }) => {
        const { rows, rowCount } = await client.query(text, values);
        return { rows, rowCount: rowCount ?? 0 };
      },
    }) as unknown as Database;

  /** How often, of ten times, what `run` wrote was on the disk when it returned. The server's own writer flushes now and then. */
  async function flushedAfter(watch: Client, run: () => Promise<unknown>): Promise<number> {
    let flushed = 0;
    for (let n = 0; n < 10; n++) {
      const before = (await watch.query("SELECT pg_current_wal_insert_lsn() AS lsn")).rows[0].lsn;
      await run();
      if ((await watch.query("SELECT pg_current_wal_flush_lsn() > $1::pg_lsn AS flushed", [before])).rows[0].flushed) flushed += 1;
    }
    return flushed;
  }

  test("where an append is asked to, and not otherwise; the deletion from an outbox never does", async () => {
    const [outbox, logSession, watch] = [await durable(connection), await durable(logConnection), await durable(logConnection)];
    const log = testEventLog(sqlOf(logSession));
    await logSession.query("INSERT INTO topics VALUES ($1, 4, 1000)", [topicsOf([OrderCreatedSchema])[0]?.name]);
    await logSession.query("INSERT INTO partitions (topic, partition) SELECT name, generate_series(0, 3) FROM topics");
    const event = () => orderCreated(uuidv7(), "a");
    expect(await flushedAfter(watch, () => log.publish([event()], { durable: true }))).toBe(10);
    expect(await flushedAfter(watch, () => log.publish([event()], { durable: false }))).toBeLessThan(5);
    const token = crypto.randomUUID();
    await takeLease(sqlOf(outbox), token, 60_000);
    for (let n = 0; n < 10; n++) await sqlOf(outbox).query(outboxInsert([event()]));
    const rows = outboxRows(await sqlOf(outbox).query(readRows()));
    const removed = await flushedAfter(watch, async () => {
      const row = rows.pop();
      expect((await sqlOf(outbox).query(deleteRows(row === undefined ? [] : [row.id], token))).rowCount).toBe(1);
    });
    expect(removed).toBeLessThan(5);
    await log.close();
  });
});
