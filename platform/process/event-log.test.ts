import { randomUUID } from "node:crypto";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { platformSettings } from "#platform/config/platform-settings.ts";
import { readSettings } from "#platform/config/settings.ts";
import { plainEvent, testTimings } from "#platform/events/event-log.testing.ts";
import type { EventLog } from "#platform/events/event-log.ts";
import { urlOf } from "#platform/postgres/connection-url.testing.ts";
import { testLog, testServer } from "#platform/postgres/database.testing.ts";
import type { Databases } from "#platform/process/databases.ts";
import { openEventLog, reachGroups } from "#platform/process/event-log.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const { TEST_SECURE_KAFKA_URL, TEST_KAFKA_CA_FILE = "" } = process.env;
const topic = { name: "t", partitions: 1, retentionMs: 3_600_000 };

async function open(environment: Record<string, string>): Promise<EventLog> {
  const log = await openEventLog({
    settings: readSettings(environment, platformSettings([])),
    // Kafka needs none.
    databases: {} as Databases,
    wakeups: undefined,
    publishes: [],
    logger: testLog,
    metrics: new Metrics(),
    timings: testTimings,
    onLost(error) {
      throw error;
    },
  });
  onTestFinished(() => log.close());
  return log;
}

describe.skipIf(TEST_SECURE_KAFKA_URL === undefined)("a Kafka that encrypts and asks who comes", () => {
  const url = TEST_SECURE_KAFKA_URL ?? "";
  const secure = { KAFKA_URL: url, KAFKA_CA_FILE: TEST_KAFKA_CA_FILE };

  test.each(["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])("is the log of who comes with a password, by %s", async (mechanism) => {
    const log = await open({ ...secure, KAFKA_SASL_MECHANISM: mechanism, KAFKA_PREFIX: `test.${randomUUID()}.` });
    await log.ensureTopics([topic]);
    const heard: string[] = [];
    await log.subscribe({
      group: "g",
      topics: ["t"],
      handle: async ({ records }) => void heard.push(...records.map(({ eventId }) => eventId)),
    });
    await log.publish([plainEvent("t", "k", "a"), plainEvent("t", "k", "b")]);
    await vi.waitFor(() => expect(heard).toEqual(["a", "b"]), { timeout: 20_000 });
  });

  test("refuses who has another password, and that stops the start", async () => {
    const log = await open({ ...secure, KAFKA_URL: url.replace(":polis@", ":other@") });
    await expect(log.ensureTopics([topic])).rejects.toThrow(/KAFKA_URL.*refuses.*invalid credentials/);
  });

  test("isn't believed where its authority isn't known", async () => {
    const log = await open({ KAFKA_URL: url });
    await log.ensureTopics([topic]);
    await expect(log.publish([plainEvent("t", "k", "a")])).rejects.toThrow();
  });
});

test("where no event log is, it is said that Kafka may have it", async () => {
  const settings = readSettings({ POSTGRES_URL_EVENTS: urlOf({ ...testServer(), database: "nowhere" }) }, platformSettings([]));
  await expect(reachGroups({ settings, log: testLog })).rejects.toThrow("KAFKA_URL must say so here as well");
});

test.each([
  { said: { KAFKA_URL: "kafkas://localhost:9", KAFKA_CA_FILE: "/nowhere/ca.pem" }, fault: "KAFKA_CA_FILE: the file can't be read" },
  { said: { KAFKA_URL: "kafka://localhost:9", KAFKA_CA_FILE: import.meta.filename }, fault: "KAFKA_URL doesn't begin with kafkas://" },
])("settings that make no sense stop the start: $fault", async ({ said, fault }) => {
  await expect(open(said)).rejects.toThrow(fault);
});
