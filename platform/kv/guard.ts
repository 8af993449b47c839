import { KvUnavailable, type Loss } from "#platform/kv/engine.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { LatencyRecorder } from "#platform/telemetry/latency.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/**
 * Runs an operation of the store, whose arguments are checked already: what is refused isn't measured. Where the engine is away, it
 * answers `without` for what may be lost, and throws CallError UNAVAILABLE for what may not.
 */
export type Guard = <T>(operation: string, without: T, run: () => Promise<T>) => Promise<T>;

/** The guard of a kind: measures, and acts as the kind says where the engine is away. */
export function guardOf({ name: kind, loss }: { readonly name: string; readonly loss: Loss }, metrics: Metrics): Guard {
  const durations = metrics.latency("polis_kv_duration_seconds", "Operations of the key-value store, by kind of data", [
    "kind",
    "operation",
  ]);
  const lost = metrics.counter("polis_kv_lost_total", "Operations of the key-value store that were done without, as it was away", ["kind"]);
  lost.inc({ kind }, 0);
  const recorders = new Map<string, LatencyRecorder>();
  const recorderOf = (operation: string): LatencyRecorder => {
    let recorder = recorders.get(operation);
    if (recorder === undefined) {
      recorder = durations.recorder({ kind, operation });
      recorders.set(operation, recorder);
    }
    return recorder;
  };
  return async (operation, without, run) => {
    const startedMs = performance.now();
    try {
      return await run();
    } catch (error) {
      if (!(error instanceof KvUnavailable)) throw error;
      if (loss === "durable") throw away(error);
      lost.inc({ kind });
      return without;
    } finally {
      recorderOf(operation).observe((performance.now() - startedMs) / 1000);
    }
  };
}

const away = (cause: KvUnavailable): CallError =>
  new CallError("UNAVAILABLE", "unavailable", "What is kept can't be reached; try again.", { retryAfterMs: 1_000, cause });
