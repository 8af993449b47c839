import type { Clock } from "#platform/clock.ts";
import { type EventTimings, growingPauseMs } from "#platform/events/timings.ts";
import { isConnectionLost, OutcomeUnknown } from "#platform/postgres/errors.ts";
import { CallError, isTransient } from "#platform/rpc/call-error.ts";

/** Nothing is known to be wrong with the event: a neighbour or a database is away. */
export const isTransientFailure = (error: unknown): boolean =>
  error instanceof CallError ? isTransient(error.status) : isConnectionLost(error) || error instanceof OutcomeUnknown;

type Failing = { tries: number; alone: number; readonly sinceMs: number; servedBefore: number; notBeforeMs: number };

/**
 * Tells an event that fails because its peer is away from one that fails alone, again and again, while the peer serves others.
 * A failure counts as alone if another event of the type was prepared since the failure before. An event that has failed long
 * enough with nobody to compare it with is taken aside, so that others are tried; what they meet decides.
 */
export type FailureBook = {
  /** An event of this type was prepared. */
  served(type: string): void;
  /** How many were, so far: taken before a round of tries, handed to `failed` after it. */
  servedCount(type: string): number;
  /** Notes a transient failure and says what it makes of the event. */
  failed(id: string, type: string, servedBefore: number): "wait" | "aside" | "poison";
  /** A parked event isn't tried before this. Milliseconds since the epoch; 0 if it hasn't failed. */
  notBeforeMs(id: string): number;
  forget(id: string): void;
};

export function makeFailureBook(timings: EventTimings, clock: Clock): FailureBook {
  const failing = new Map<string, Failing>();
  const served = new Map<string, number>();
  const count = (type: string): number => served.get(type) ?? 0;
  return {
    served: (type) => void served.set(type, count(type) + 1),
    servedCount: count,
    failed(id, type, servedBefore) {
      const nowMs = clock();
      const entry = failing.get(id) ?? { tries: 0, alone: 0, sinceMs: nowMs, servedBefore, notBeforeMs: 0 };
      failing.set(id, entry);
      entry.tries += 1;
      if (count(type) > entry.servedBefore) entry.alone += 1;
      entry.servedBefore = count(type);
      entry.notBeforeMs = nowMs + growingPauseMs(entry.tries, timings);
      if (nowMs - entry.sinceMs < timings.aloneForMs) return "wait";
      if (entry.alone >= timings.aloneTries) {
        // Should somebody replay it, it begins anew.
        failing.delete(id);
        return "poison";
      }
      return entry.tries >= timings.aloneTries ? "aside" : "wait";
    },
    notBeforeMs: (id) => failing.get(id)?.notBeforeMs ?? 0,
    forget: (id) => void failing.delete(id),
  };
}
