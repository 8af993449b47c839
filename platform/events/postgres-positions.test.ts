import { expect, test, vi } from "vitest";
import { logMigrations, testTimings } from "#platform/events/event-log.testing.ts";
import type { Holding } from "#platform/events/postgres-partition.ts";
import { makePositions } from "#platform/events/postgres-positions.ts";
import { testDatabase, testLog } from "#platform/postgres/database.testing.ts";

test("a position never goes backwards, and one that is committed while another member takes the partition over is refused", async () => {
  const database = await testDatabase({ migrations: logMigrations });
  const member = crypto.randomUUID();
  await database.query({ text: "INSERT INTO topics VALUES ('t', 1, 1000)" });
  await database.query({ text: "INSERT INTO partitions (topic, partition) VALUES ('t', 0)" });
  await database.query({ text: "INSERT INTO groups (name) VALUES ('g')" });
  await database.query({
    text: "INSERT INTO positions (group_id, partition_id, position, generation) SELECT g.id, p.id, 3, 7 FROM groups g, partitions p",
  });
  await database.query({
    text: "INSERT INTO leases (group_id, partition_id, member, generation) SELECT group_id, partition_id, $1, generation FROM positions",
    values: [member],
  });
  const ids = (
    await database.query<Pick<Holding, "groupId" | "partitionId">>({
      text: 'SELECT group_id AS "groupId", partition_id AS "partitionId" FROM positions',
    })
  ).rows[0] as Pick<Holding, "groupId" | "partitionId">;
  const holding: Holding = { ...ids, member, topic: "t", partition: 0, generation: 7n, position: 3n };
  const positions = makePositions({ database, logger: testLog, timings: { ...testTimings, positionsEveryMs: 60_000 } });
  const lost = vi.fn();

  positions.commit(holding, 4n, lost);
  await positions.flush();
  positions.commit(holding, 3n, lost);
  await positions.flush();
  expect(lost).not.toHaveBeenCalled();

  let flushed: Promise<void> = Promise.resolve();
  await database.transaction(async (tx) => {
    await tx.query({ text: "UPDATE positions SET generation = 8" });
    await tx.query({ text: "UPDATE leases SET generation = 8, member = $1", values: [crypto.randomUUID()] });
    positions.commit(holding, 5n, lost);
    flushed = positions.flush();
    // It has read the lease as it was, and waits for the position's row.
    await vi.waitFor(async () => {
      const { rows } = await database.query<{ waits: boolean }>({
        text: `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                 AND wait_event_type = 'Lock' AND query LIKE '%UPDATE positions o%' AND pid <> pg_backend_pid()) AS waits`,
      });
      expect(rows[0]?.waits).toBe(true);
    });
  });
  await flushed;
  expect(lost).toHaveBeenCalledOnce();
  const { rows } = await database.query({ text: "SELECT position, generation FROM positions" });
  expect(rows).toEqual([{ position: 4n, generation: 8n }]);
});
