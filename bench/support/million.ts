import type { Client } from "pg";
import { type BenchServer, connect } from "./server.ts";

/** How far back in time the orders reach that are put there. */
const SPREAD_MS = 5 * 24 * 60 * 60 * 1000;

/**
 * Puts `count` finished orders into a stopped Polis that has run some of its own, as if it had taken them over five days:
 * the order, its key with the answer, its charge, its posting with what is left on the accounts, the two events in the log
 * and in both inboxes. What is copied from (lengths, batches, ids of groups and accounts) is what Polis wrote itself.
 */
export async function addOrders(server: BenchServer, count: number): Promise<void> {
  await using parts = new AsyncDisposableStack();
  const fill = async (database: string, run: (client: Client) => Promise<unknown>): Promise<void> => {
    const client = await connect(server, database, parts);
    await client.query("SET statement_timeout = 0");
    await run(client);
    await client.query("VACUUM (ANALYZE)");
  };
  const accounts = await connect(server, "polis_accounts", parts);
  const customers = (await accounts.query<{ id: string; user_id: string }>("SELECT id, user_id FROM accounts ORDER BY id")).rows;
  const users = `(ARRAY['${customers.map(({ user_id }) => user_id).join("','")}']::uuid[])[1 + n % ${customers.length}]`;
  const firstMs = Date.now() - SPREAD_MS;
  const ms = `(${firstMs} + n * ${SPREAD_MS - 60_000}::bigint / ${count})`;
  const at = `to_timestamp(${ms} / 1000.0)`;
  // UUIDv7 that grow with n, the same in every database.
  const id = uuid(ms, "n");
  const series = `generate_series(0, ${count - 1}) n`;

  await Promise.all([
    fill("polis_orders", async (client) => {
      await client.query(
        `INSERT INTO orders SELECT ${id}, ${users}, 1, 'RUB', 'Two tickets to the opera', 'FINISHED', NULL, ${at} FROM ${series}`,
      );
      await client.query(`
        INSERT INTO idempotency (key, content, answer, created_at)
        SELECT md5('key' || n)::uuid, md5('content' || n)::uuid, decode(repeat('7f', (SELECT avg(octet_length(answer))::int FROM idempotency)), 'hex'), ${at} FROM ${series}`);
      await client.query(inbox(ms, at, series, "orders.on-payment-settled"));
    }),
    fill("polis_payments", async (client) => {
      await client.query(`INSERT INTO charges SELECT ${id}, ${users}, 1, 'RUB', 'SUCCEEDED', NULL, ${at} FROM ${series}`);
      await client.query(inbox(ms, at, series, "payments.on-order-created"));
    }).then(() => fill("polis_events", (client) => addRecords(client, count))),
    fill("polis_accounts", async (client) => {
      const debit = `(ARRAY['${customers.map((customer) => customer.id).join("','")}']::uuid[])[1 + n % ${customers.length}]`;
      await client.query(`
        INSERT INTO postings SELECT ${id}, ${id}, 0, 'POSTED', NULL, md5('content' || n)::uuid, ${debit},
          (SELECT id FROM house_accounts WHERE name = 'sales'), 1, 'RUB', ${id}, ${at} FROM ${series}`);
      await client.query(
        `UPDATE accounts SET balance = balance - paid FROM (SELECT ${debit} AS id, count(*) AS paid FROM ${series} GROUP BY 1) p WHERE p.id = accounts.id`,
      );
    }),
  ]);
  // What the filling left to be written back is not the measured ones' to pay for.
  await accounts.query("CHECKPOINT");
}

const uuid = (ms: string, n: string): string =>
  `(lpad(to_hex(${ms}), 12, '0') || '7' || lpad(to_hex(${n} % 4096), 3, '0') || '8' || substr(md5(${n}::text), 1, 15))::uuid`;

const inbox = (ms: string, at: string, series: string, group: string): string =>
  `INSERT INTO inbox (event_id, handled_at, group_id) SELECT ${uuid(ms, "(n + 1)")}, ${at}, (SELECT id FROM inbox_groups WHERE name = '${group}') FROM ${series}`;

/** The log's rows, as large as its own are; every group has handled them all. */
async function addRecords(client: Client, count: number): Promise<void> {
  await client.query("BEGIN");
  await client.query(`
    CREATE TEMP TABLE additions ON COMMIT DROP AS
    SELECT p.id, p.next_offset, t.count, t.records, (${count} / of_topic.partitions / t.count)::bigint AS batches
    FROM partitions p
    JOIN topics of_topic ON of_topic.name = p.topic
    CROSS JOIN LATERAL (SELECT count, records FROM log WHERE partition_id = p.id ORDER BY abs(count - (SELECT avg(count) FROM log)) LIMIT 1) t`);
  await client.query(
    "INSERT INTO log (partition_id, last_offset, count, records) SELECT id, next_offset - 1 + n * count, count, records FROM additions, generate_series(1, batches) n",
  );
  await client.query("UPDATE partitions p SET next_offset = p.next_offset + a.batches * a.count FROM additions a WHERE a.id = p.id");
  await client.query("UPDATE positions s SET position = p.next_offset FROM partitions p WHERE p.id = s.partition_id");
  await client.query("COMMIT");
}
