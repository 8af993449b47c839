import type { ConsumerGroup, Entry } from "#platform/events/consumer-group.ts";
import type { EventRecord } from "#platform/events/record.ts";
import type { Parking } from "#platform/inbox/parking.ts";
import { causeOf } from "#platform/rpc/cause-of.ts";

/** Where a key stops: at this event, which is parked so, or without `parking` is left for a further round. */
export type Stop = { readonly entry: Entry; readonly error: unknown; readonly parking: Parking | undefined };

/** By key. */
export type Stops = ReadonlyMap<string, Stop>;

export const waitingBehind = (record: EventRecord): Parking => ({ record, state: "waiting", tries: 0, afterMs: 0, cause: undefined });

/** How an event is parked that has failed `tries` times by its own fault. */
export function parkedAfter({ timings }: ConsumerGroup, tries: number, error: unknown): Omit<Parking, "record"> {
  const afterMs = timings.retryPausesMs[tries - 1];
  return { state: afterMs === undefined ? "dead" : "retrying", tries, afterMs: afterMs ?? 0, cause: causeOf(error) };
}
