import { setTimeout as sleep } from "node:timers/promises";
import type { Clock } from "#platform/clock.ts";
import type { HostedService } from "#platform/process/host-service.ts";
import type { Log } from "#platform/telemetry/log.ts";
import { pruneAnswers } from "#platform/writes/idempotency.ts";

const ROWS_A_BATCH = 2_000;

/** Forgets clients' keys that are past their time, now and then, batch by batch; the log and the inboxes see to themselves. */
export function startPruning(options: {
  readonly services: readonly HostedService[];
  readonly everyMs: number;
  readonly log: Log;
  readonly clock: Clock;
}): { stop(): Promise<void> } {
  const { services, everyMs, log, clock } = options;
  const stopping = new AbortController();
  const run = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      for (const { definition, database } of services) {
        try {
          while (!stopping.signal.aborted && (await pruneAnswers(database, clock(), ROWS_A_BATCH)) === ROWS_A_BATCH);
        } catch (error) {
          log.warn({ err: error, service: definition.name }, "old keys stay a while longer");
        }
      }
      await sleep(everyMs, undefined, { signal: stopping.signal }).catch(() => {});
    }
  };
  const running = run();
  return {
    stop() {
      stopping.abort();
      return running;
    },
  };
}
