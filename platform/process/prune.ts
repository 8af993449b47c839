import type { Clock } from "#platform/clock.ts";
import type { PostgresLog } from "#platform/events/postgres-log.ts";
import type { EventTimings } from "#platform/events/timings.ts";
import { pruneInbox } from "#platform/inbox/inbox.ts";
import type { HostedService } from "#platform/process/host-service.ts";
import type { Log } from "#platform/telemetry/log.ts";
import { pruneAnswers } from "#platform/writes/idempotency.ts";

const ROWS_A_PRUNING = 5_000;

/**
 * Deletes what is past its time, in bounded batches: clients' keys, inboxes. Several processes may do so at once; a row that
 * one has deleted, the other doesn't find.
 */
export function startPruning(options: {
  readonly services: readonly HostedService[];
  readonly log: Log;
  readonly clock: Clock;
  readonly timings: EventTimings;
}): { stop(): Promise<void> } {
