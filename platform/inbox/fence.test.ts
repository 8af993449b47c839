import { expect, test } from "vitest";
import { FencedError } from "#platform/events/event-log.ts";
import { serviceMigrations } from "#platform/events/test-support.ts";
import { type Fence, fenceGuard, raiseFence } from "#platform/inbox/fence.ts";
import { testDatabase } from "#platform/postgres/testing.ts";

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
