import type { AddressEntry } from "#contracts/polis/edge/v1/kept_pb.ts";
import type { Clock } from "#platform/clock.ts";
import { holding, type KeptAddresses, readList } from "#platform/edge/address-list.ts";
import { inNetworks } from "#platform/edge/networks.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/** So that a change is known everywhere within a second. */
const READ_EVERY_MS = 400;
/** The first reading may take so long: an edge whose list can't be read starts without one. */
const FIRST_MS = 2_000;
/** Between two lines of the log that tell that the list can't be read. */
const TELL_MS = 60_000;
/** Addresses whose place in the list is remembered. */
const KNOWN_MAX = 20_000;

export type Standing = "blocked" | "allowed" | "plain";

export type WatchedAddresses = {
  standingOf(address: string): Standing;
  close(): Promise<void>;
};

/** An edge's list of addresses, read again and again. While it can't be, the last that was read goes on, and what expires there does. */
export async function watchAddresses(
  kept: KeptAddresses,
  { clock, log, metrics }: { readonly clock: Clock; readonly log: Log; readonly metrics: Metrics },
): Promise<WatchedAddresses> {
  let list: readonly AddressEntry[] = [];
  let standingIn: ((address: string) => Standing) | undefined;
  const known = new Map<string, Standing>();
  let readMs = performance.now();
  let toldMs = Number.NEGATIVE_INFINITY;
  const take = (entries: readonly AddressEntry[]): void => {
    const isKnown = isSame(entries, list);
    list = entries;
    if (isKnown) return;
    known.clear();
    standingIn = entries.length === 0 ? undefined : standings(entries);
  };
  const read = async (): Promise<void> => {
    try {
      take(await readList(kept, clock));
      readMs = performance.now();
    } catch (error) {
      take(holding(list, clock()));
      if (performance.now() - toldMs < TELL_MS) return;
      toldMs = performance.now();
      log.warn({ err: error }, "the list of blocked addresses can't be read: the last one that was goes on");
    }
  };
  let reading: Promise<void> | undefined;
  const readOnce = (): Promise<void> =>
    (reading ??= read().finally(() => {
      reading = undefined;
    }));
  let late: NodeJS.Timeout | undefined;
  await Promise.race([
    readOnce(),
    new Promise((resolve) => {
      late = setTimeout(resolve, FIRST_MS);
    }),
  ]);
  clearTimeout(late);
  const timer = setInterval(() => void readOnce(), READ_EVERY_MS);
  timer.unref();
  const size = metrics.gauge("polis_address_entries", "Entries of the list of blocked and allowed addresses", []);
  const age = metrics.gauge("polis_address_list_age_seconds", "How long ago the list of addresses was read", []);
  const stopMeasuring = metrics.measureWhenRead(() => {
    size.set(list.length);
    age.set((performance.now() - readMs) / 1000);
  });
  return {
    standingOf(address) {
      if (standingIn === undefined) return "plain";
      let standing = known.get(address);
      if (standing === undefined) {
        standing = standingIn(address);
        if (known.size >= KNOWN_MAX) known.clear();
        known.set(address, standing);
      }
      return standing;
    },
    async close() {
      clearInterval(timer);
      stopMeasuring();
      await reading;
    },
  };
}

/** Who is on both is blocked. */
function standings(entries: readonly AddressEntry[]): (address: string) => Standing {
  const of = (isAllowed: boolean) => inNetworks(entries.filter((each) => each.isAllowed === isAllowed).map(({ network }) => network));
  const [isBlocked, isAllowed] = [of(false), of(true)];
  return (address) => (isBlocked(address) ? "blocked" : isAllowed(address) ? "allowed" : "plain");
}

const isSame = (a: readonly AddressEntry[], b: readonly AddressEntry[]): boolean =>
  a.length === b.length && a.every(({ network, isAllowed }, n) => network === b[n]?.network && isAllowed === b[n]?.isAllowed);
