import { monitorEventLoopDelay } from "node:perf_hooks";
import type { EdgeSettings } from "#platform/edge/edge-settings.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/** The event loop's delay is that of so long, and looked at as often. */
const SAMPLE_MS = 500;
const RESOLUTION_MS = 10;
const SWEEP_AT_MIN = 4_096;

/** A place among the requests that are worked on. */
export type Place = { leave(): void };

/** Why there is none: a request for another time. */
export type Shed = "event_loop" | "in_flight" | "in_flight_of_address";

export type Shedding = {
  /** @param counts false for a stream, which holds a place of its address, and none of the process */
  enter(address: string, counts: boolean): Place | Shed;
  close(): void;
};

/** Takes in as much as a process can work on, and no more: what is over that is refused while it is cheap. */
export function openShedding(
  { inFlightMax, inFlightPerAddressMax, loopDelayMaxMs }: Pick<EdgeSettings, "inFlightMax" | "inFlightPerAddressMax" | "loopDelayMaxMs">,
  metrics: Metrics,
): Shedding {
  const shed = metrics.counter(
    "polis_shed_total",
    "Requests that were refused at once, as there was too much to do, by what was too much",
    ["why"],
  );
  for (const why of ["event_loop", "in_flight", "in_flight_of_address"] as const) shed.inc({ why }, 0);
  const loop = watchLoop(loopDelayMaxMs);
  const ofAddress = new Map<string, AddressPlaces>();
  let sweepAt = SWEEP_AT_MIN;
  let inFlight = 0;
  const held = metrics.gauge("polis_in_flight", "Requests that are worked on, streams apart", []);
  const stopMeasuring = metrics.measureWhenRead(() => held.set(inFlight));
  const refused = (why: Shed): Shed => {
    shed.inc({ why });
    return why;
  };
  const freeProcess = (): void => {
    inFlight -= 1;
  };
  return {
    enter(address, counts) {
      if (loop.isLate) return refused("event_loop");
      if (counts && inFlight >= inFlightMax) return refused("in_flight");
      let places = ofAddress.get(address);
      if (places === undefined) {
        if (ofAddress.size >= sweepAt) sweepAt = sweep(ofAddress);
        places = new AddressPlaces(freeProcess);
        ofAddress.set(address, places);
      }
      if (places.count >= inFlightPerAddressMax) return refused("in_flight_of_address");
      places.count += 1;
      if (!counts) return places.ofStream;
      inFlight += 1;
      return places;
    },
    close() {
      stopMeasuring();
      loop.close();
    },
  };
}

/** The places of one address: one object for all of them. */
class AddressPlaces implements Place {
  count = 0;
  readonly ofStream: Place = {
    leave: () => {
      this.count -= 1;
    },
  };
  readonly #freeProcess: () => void;

  constructor(freeProcess: () => void) {
    this.#freeProcess = freeProcess;
  }

  leave(): void {
    this.#freeProcess();
    this.count -= 1;
  }
}

/** Forgets the addresses that have no place; gives the size at which to do so again. Not as each leaves: it mostly comes again at once. */
function sweep(ofAddress: Map<string, AddressPlaces>): number {
  for (const [address, { count }] of ofAddress) if (count === 0) ofAddress.delete(address);
  return Math.max(SWEEP_AT_MIN, 2 * ofAddress.size);
}

/** Whether the event loop was late over the last two half seconds: once alone is a process that was frozen, or a machine that slept. */
function watchLoop(maxMs: number): { readonly isLate: boolean; close(): void } {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delays.enable();
  let isLate = false;
  let wasLate = false;
  const timer = setInterval(() => {
    // What is measured is the time from one tick to the next, the pause between them included.
    const isLateNow = delays.mean / 1e6 - RESOLUTION_MS > maxMs;
    isLate = isLateNow && wasLate;
    wasLate = isLateNow;
    delays.reset();
  }, SAMPLE_MS);
  timer.unref();
  return {
    get isLate() {
      return isLate;
    },
    close() {
      clearInterval(timer);
      delays.disable();
    },
  };
}
