import { beforeEach, describe, expect, test } from "vitest";
import { serviceMigrations } from "#platform/events/event-log.testing.ts";
import { derivedUuid, uuidv7 } from "#platform/ids.ts";
import { handledIds, inboxGroup, inboxId, insertHandled, pruneInbox } from "#platform/inbox/inbox.ts";
import { testDatabase } from "#platform/postgres/database.testing.ts";

const HOUR_MS = 3_600_000;

describe("the inbox", async () => {
  const database = await testDatabase({ migrations: serviceMigrations });
  beforeEach(async () => {
    await database.query({ text: "TRUNCATE inbox" });
  });

  test("knows what each group has handled, and takes no event twice", async () => {
    const [a, b] = [await inboxGroup(database, "s.a"), await inboxGroup(database, "s.b")];
    expect(await inboxGroup(database, "s.a")).toBe(a);
    const [one, two] = [uuidv7(), uuidv7()];
    await database.query(insertHandled(a, [two, one]));
    expect(await handledIds(database, a, [one, two, uuidv7()])).toEqual(new Set([one, two]));
    expect(await handledIds(database, b, [one])).toEqual(new Set());
    await expect(database.query(insertHandled(a, [uuidv7(), one]))).rejects.toMatchObject({ constraint: "inbox_pkey" });
  });

  test("knows a foreign event by an id made of its own", () => {
    const own = uuidv7();
    expect(inboxId({ eventId: own })).toBe(own);
    expect(inboxId({ eventId: "evt_1" })).toBe(derivedUuid("evt_1"));
  });

  test("forgets what both happened and was handled long enough ago, of one group, however much it is", async () => {
    const [a, b] = [await inboxGroup(database, "s.a"), await inboxGroup(database, "s.b")];
    // Past the clock of uuidv7(), which never goes back.
    const idAt = (ageMs: number, n: number): string =>
      `${(Date.now() - ageMs)
        .toString(16)
        .padStart(12, "0")
        .replace(/^(.{8})/, "$1-")}-7000-8000-${String(n).padStart(12, "0")}`;
    const old = Array.from({ length: 2_500 }, (_, n) => idAt(10 * HOUR_MS, n));
    const [late, fresh] = [idAt(10 * HOUR_MS, 5_000), idAt(0, 1)];
    await database.query(insertHandled(a, [...old, fresh]));
    await database.query(insertHandled(b, old));
    await database.query({ text: "UPDATE inbox SET handled_at = now() - interval '9 hours'" });
    await database.query(insertHandled(a, [late]));
    expect(await pruneInbox(database, a, 8 * HOUR_MS, 2_000)).toBe(2_000);
    expect(await pruneInbox(database, a, 8 * HOUR_MS, 2_000)).toBe(500);
    expect(await handledIds(database, a, [late, fresh, ...old])).toEqual(new Set([late, fresh]));
    expect((await handledIds(database, b, old)).size).toBe(2_500);
  });
});
