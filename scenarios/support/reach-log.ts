import { platformSettings } from "#platform/config/platform-settings.ts";
import { readSettings } from "#platform/config/settings.ts";
import type { EventLog, Groups } from "#platform/events/event-log.ts";
import { defaultEventTimings, type EventTimings } from "#platform/events/timings.ts";
import { openDatabases } from "#platform/process/databases.ts";
import { openEventLog, reachGroups } from "#platform/process/event-log.ts";
import type { Log } from "#platform/telemetry/log.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { release } from "../../cli/release.ts";

/** The event log of processes that are told this, beside them, and its groups. PostgreSQL must be an outside one. */
export async function reachLog(
  environment: Readonly<Record<string, string>>,
  logger: Log,
  timings: Partial<EventTimings> = {},
): Promise<{ readonly log: EventLog; readonly groups: Groups; close(): Promise<void> }> {
  const settings = readSettings(environment, platformSettings([]));
  const onLost = (error: Error): never => {
    throw error;
  };
  const shared = { settings, metrics: new Metrics(), onLost };
  const databases = await openDatabases({ ...shared, release, log: logger });
  const log = await openEventLog({
    ...shared,
    databases,
    wakeups: undefined,
    publishes: [],
    logger,
    timings: { ...defaultEventTimings, ...timings },
  });
  const { groups, close } = await reachGroups({ settings, log: logger });
  return {
    log,
    groups,
    async close() {
      await log.close();
      await close();
      await databases.stop();
    },
  };
}
