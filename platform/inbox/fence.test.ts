import { expect, test } from "vitest";
import { serviceMigrations } from "#platform/events/event-log.testing.ts";
import { FencedError } from "#platform/events/event-log.ts";
import { type Fence, fenceGuard, raiseFence } from "#platform/inbox/fence.ts";
import { testDatabase, testDatabaseConnection, testLog } from "#platform/postgres/database.testing.ts";
import { isGivenUpWaiting } from "#platform/postgres/errors.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const database = await testDatabase({ migrations: serviceMigrations });
const place = { groupId: 1, topic: "t", partition: 0 };
const confirmed = async (): Promise<void> => {};
const check = async (fence: Fence): Promise<void> => {
  const guard = fenceGuard(fence);
  guard.check?.(await database.query(guard));
};

test("who raises a fence writes on, and who had it before is shut out", async () => {
  const first = await raiseFence(database, place, confirmed);
  await check(first);
  const second = await raiseFence(database, place, confirmed);
  await check(second);
  await expect(check(first)).rejects.toThrow(FencedError);
});

test("one who was frozen while another raised the fence is shut out himself, whether or not his log still confirmed him", async () => {
  const held: Fence[] = [];
  const late = raiseFence(database, place, async () => void held.push(await raiseFence(database, place, confirmed)));
  await expect(late).rejects.toThrow(FencedError);
  const gone = raiseFence(database, place, () => Promise.reject(new FencedError("another's")));
  await expect(gone).rejects.toThrow("another's");
  await check(held[0] as Fence);
});

test("of many who raise a fence at once one has it in the end", async () => {
  const raised = await Promise.allSettled(Array.from({ length: 8 }, () => raiseFence(database, { ...place, partition: 1 }, confirmed)));
  const fences = raised.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  expect(new Set(fences.map(({ generation }) => generation)).size).toBe(fences.length);
  const holding = await Promise.allSettled(fences.map(check));
  expect(holding.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
});

test("a fence that is held by a batch is waited for shortly: what waited for it would have every connection", async () => {
  const patient = await openDatabase({
    connection: { ...(await testDatabaseConnection(serviceMigrations)), options: "-c lock_timeout=0 -c statement_timeout=0" },
    name: "fences",
    log: testLog,
    metrics: new Metrics(),
  });
  const fence = await raiseFence(patient, place, confirmed);
  await patient.transaction(async (tx) => {
    await tx.query(fenceGuard(fence));
    await expect(raiseFence(patient, place, confirmed)).rejects.toSatisfy(isGivenUpWaiting);
  });
  await raiseFence(patient, place, confirmed);
  await patient.close();
});
