import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { createKv, type Kv } from "#platform/kv/kv.ts";
import { postgresEngine } from "#platform/kv/postgres-engine.ts";
import { isRedisThere, openTestRedis, redisBehindLine } from "#platform/kv/redis.testing.ts";
import type { Line } from "#platform/line.testing.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { someEmail } from "./auth.testing.ts";
import { forgetSignInTries, noteFailure, takeCode, takeCodeTry, takeSecondFactorTry, takeSignInTry, takeStrengthCheck } from "./limits.ts";
import { authService } from "./service.ts";

const database = (await testServices(authService)).database("kv");

const contact = someEmail();
const ways: readonly (readonly [string, (kv: Kv) => Promise<unknown>])[] = [
  ["try a password", (kv) => takeSignInTry(kv, contact, undefined)],
  ["try a code", (kv) => takeCodeTry(kv, randomUUID(), contact)],
  ["try a second factor", (kv) => takeSecondFactorTry(kv, { userId: randomUUID(), challengeId: randomUUID() }, undefined)],
  ["have a code sent", (kv) => takeCode(kv, contact, undefined)],
  ["have a password looked at", (kv) => takeStrengthCheck(kv, undefined)],
];

/** The store on a Redis whose line can be broken. */
async function breakable() {
  const { connection, line } = await redisBehindLine();
  const passing = await openTestRedis(connection);
  return { kv: createKv({ kept: postgresEngine(database, "kept"), passing, copies: undefined, metrics: new Metrics() }), line };
}

describe.skipIf(!isRedisThere)("while the Redis that counts is away", () => {
  let kv: Kv;
  let line: Line["line"];
  beforeAll(async () => {
    ({ kv, line } = await breakable());
  });

  test.each(ways)("nobody may %s, and is told to come again; then it goes on", async (_, take) => {
    expect(await take(kv)).toBeUndefined();
    line("cut");
    await expect(take(kv)).rejects.toMatchObject({ status: "UNAVAILABLE", retryAfterMs: 1_000 });
    line("open");
    await vi.waitFor(async () => expect(await take(kv).catch(() => "away")).not.toBe("away"), 20_000);
  });

  test("that failures can't be noted, nor tries forgotten, stops nobody who was let in", async () => {
    line("cut");
    await expect(noteFailure(kv)).resolves.toBeUndefined();
    await expect(forgetSignInTries(kv, contact)).resolves.toBeUndefined();
    line("open");
  });
});
