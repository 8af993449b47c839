import { onTestFinished } from "vitest";
import { ThingsService } from "#contracts/polis/resttest/v1/resttest_pb.ts";
import { systemClock } from "#platform/clock.ts";
import { readSettings } from "#platform/config/settings.ts";
import { edgeSettings } from "#platform/edge/edge-settings.ts";
import { openProtection } from "#platform/edge/protection.ts";
import { createKv, type Kv } from "#platform/kv/kv.ts";
import { kvMigrations } from "#platform/kv/kv-engine.testing.ts";
import { postgresEngine } from "#platform/kv/postgres-engine.ts";
import { testDatabase, testLog } from "#platform/postgres/database.testing.ts";
import { type Answers, things } from "#platform/rest/things.testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

/** A key-value store in PostgreSQL, of which each gateway opens its own handle; dropped after the tests of the file. */
export async function testKv(): Promise<() => Kv> {
  const database = await testDatabase({ migrations: [kvMigrations], maxConnections: 8 });
  const [kept, passing] = [postgresEngine(database, "kept"), postgresEngine(database, "passing")];
  return () => createKv({ kept, passing, copies: undefined, metrics: new Metrics() });
}

/** Named as in the environment. */
type Environment = Readonly<Record<string, string>>;

/** A server of the test contract that is protected under these settings. */
export async function protectedThings(openKv: () => Kv, environment: Environment = {}, answers: Answers = {}) {
  const metrics = new Metrics();
  const protection = await openProtection(readSettings(environment, edgeSettings), ThingsService.methods, {
    edge: "gateway",
    kv: openKv(),
    clock: systemClock,
    log: testLog,
    metrics,
  });
  onTestFinished(() => protection.close());
  return { ...(await things(answers, { protection, metrics })), metrics };
}
