import { expect, test } from "vitest";
import { FencedError } from "#platform/events/event-log.ts";
import { serviceMigrations } from "#platform/events/test-support.ts";
import { type Fence, fenceGuard, raiseFence } from "#platform/inbox/fence.ts";
import { isGivenUpWaiting } from "#platform/postgres/errors.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { testDatabase, testDatabaseConnection, testLog } from "#platform/postgres/testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const database = await testDatabase({ migrations: serviceMigrations });
const held = (generation: bigint): Fence => ({ groupId: 1, topic: "t", partition: 0, generation });

test("a fence is never lowered: who comes late is shut out himself, and the holder writes on", async () => {
  const check = async (generation: bigint): Promise<void> => {
    const guard = fenceGuard(held(generation));
    guard.check?.(await database.query(guard));
  };
  await raiseFence(database, held(5n));
  await expect(raiseFence(database, held(4n))).rejects.toThrow(FencedError);
  await check(5n);
  await raiseFence(database, held(5n));
  await raiseFence(database, held(6n));
  await check(6n);
  await expect(check(5n)).rejects.toThrow(FencedError);
});

test("a fence that is held by a batch is waited for shortly: what waited for it would have every connection", async () => {
  const patient = await openDatabase({
    connection: { ...(await testDatabaseConnection(serviceMigrations)), options: "-c lock_timeout=0 -c statement_timeout=0" },
    name: "fences",
    log: testLog,
    metrics: new Metrics(),
  });
  const fence = { groupId: 1, topic: "t", partition: 0, generation: 1n };
  await raiseFence(patient, fence);
  await patient.transaction(async (tx) => {
    await tx.query(fenceGuard(fence));
    await expect(raiseFence(patient, { ...fence, generation: 2n })).rejects.toSatisfy(isGivenUpWaiting);
  });
  await raiseFence(patient, { ...fence, generation: 2n });
  await patient.close();
});
