import type { ApplyOutcome, GuardStatement } from "#platform/events/apply.ts";
import type { ConsumerGroup, Entry, PartitionWork } from "#platform/events/consumer-group.ts";
import { isTransientFailure } from "#platform/events/failure-book.ts";
import { parkedAfter, type Stop, type Stops, waitingBehind } from "#platform/events/park-events.ts";
import type { Prepared } from "#platform/events/prepare-events.ts";
import { fenceGuard } from "#platform/inbox/fence.ts";
import { handledIds, insertHandled, readHandled } from "#platform/inbox/inbox.ts";
import { type Parking, parkEvents, promoteFirst } from "#platform/inbox/parking.ts";
import type { Statement } from "#platform/postgres/database.ts";
import { isUniqueViolation } from "#platform/postgres/errors.ts";

export type Ready = Extract<Prepared, { kind: "ready" }>;

export const isReady = (prepared: Prepared): prepared is Ready => prepared.kind === "ready";

export type Applying = {
  /** All events of the partition that are still to be handled, in order. */
  readonly pending: readonly Entry[];
  /** Those of them that can be applied now. */
  readonly ready: readonly Ready[];
  /** Where keys stop already. */
  readonly stops: Stops;
};

export type Applied = {
  readonly applied: readonly Entry[];
  /** Handled before. */
  readonly known: readonly Entry[];
  readonly parked: readonly Entry[];
  /** Those given, and those met on the way. */
  readonly stops: Stops;
};

/**
 * Applies what is ready and parks what stopped, with all that follows it under its key, in one transaction. That some events
 * were handled before, or that a key's order would break, comes out inside of it; then nothing is written, and it is done
 * again without them.
 */
export async function applyEvents(group: ConsumerGroup, work: PartitionWork, { pending, ready: given, stops }: Applying): Promise<Applied> {
  const order = new Map(pending.map((entry, place) => [entry, place]));
  const known: Entry[] = [];
  let ready = given.filter(({ entry }) => !isBehind(order, stops, entry));
  for (;;) {
    let decision: Decision = { applied: [], parked: [], stops };
    const isNothing = ready.length === 0 && [...stops.values()].every((stop) => stop.parking === undefined);
    if (isNothing) return { ...decision, known };
    const last = (outcomes: readonly ApplyOutcome[]): Statement[] => {
      decision = decide(group, { pending, ready, stops }, order, outcomes);
      return statementsOf(group, work, decision);
    };
    try {
      await group.apply(
        ready.map(({ item }) => item),
        { first: guardsOf(group, work, ready), last },
      );
      return { ...decision, known };
    } catch (error) {
      if (error instanceof OutOfOrder) ready = firstOfKeys(ready, error.keys);
      else {
        const ids = await idsHandledBefore(group, ready, error);
        known.push(...ready.filter(({ entry }) => ids.has(entry.inboxId)).map(({ entry }) => entry));
        ready = ready.filter(({ entry }) => !ids.has(entry.inboxId));
      }
    }
  }
}

type Order = ReadonlyMap<Entry, number>;
type Decision = Omit<Applied, "known">;

/** At the event at which its key stops, or after it. */
function isBehind(order: Order, stops: Stops, entry: Entry): boolean {
  const stop = stops.get(entry.record.key);
  return stop !== undefined && (order.get(entry) ?? 0) >= (order.get(stop.entry) ?? 0);
}

/** What the outcomes of the items mean; throws OutOfOrder where something was applied that should have waited. */
function decide(group: ConsumerGroup, { pending, ready, stops }: Applying, order: Order, outcomes: readonly ApplyOutcome[]): Decision {
  const met = new Map<string, Stop>(stops);
  const applied: Entry[] = [];
  for (const [i, { entry }] of ready.entries()) {
    const outcome = outcomes[i];
    if (outcome?.kind !== "failed") applied.push(entry);
    else if (!isBehind(order, met, entry)) {
      const { error } = outcome;
      const parking = isTransientFailure(error) ? undefined : { record: entry.record, ...parkedAfter(group, 1, error) };
      met.set(entry.record.key, { entry, error, parking });
    }
  }
  const tooSoon = applied.filter((entry) => isBehind(order, met, entry));
  if (tooSoon.length > 0) throw new OutOfOrder(new Set(tooSoon.map((entry) => entry.record.key)));
  const parked = pending.filter((entry) => isBehind(order, met, entry) && met.get(entry.record.key)?.parking !== undefined);
  return { applied, parked, stops: met };
}

function statementsOf(group: ConsumerGroup, work: PartitionWork, { applied, parked, stops }: Decision): Statement[] {
  const parkings = parked.map((entry) => {
    const stop = stops.get(entry.record.key);
    return stop?.entry === entry && stop.parking !== undefined ? stop.parking : waitingBehind(entry.record);
  });
  const ids = applied.map((entry) => entry.inboxId);
  return [...(ids.length > 0 ? [insertHandled(group.id, ids)] : []), ...(parkings.length > 0 ? parking(work, parkings) : [])];
}

/** Somebody may have dropped what a key was known to wait for. */
const parking = ({ fence }: PartitionWork, parkings: readonly Parking[]): Statement[] => [
  parkEvents(fence, parkings),
  promoteFirst(
    fence,
    parkings.map(({ record }) => record.key),
  ),
];

/**
 * The fence, and that none of the events was handled: in the transaction itself, so that events which are new, as nearly all
 * are, cost no further round trip.
 */
function guardsOf(group: ConsumerGroup, work: PartitionWork, ready: readonly Ready[]): GuardStatement[] {
  const fence = fenceGuard(work.fence);
  if (ready.length === 0) return [fence];
  const notHandled: GuardStatement = {
    ...readHandled(
      group.id,
      ready.map(({ entry }) => entry.inboxId),
    ),
    check({ rows }) {
      if (rows.length > 0) throw new AlreadyHandled(new Set(rows.map((row) => row.event_id as string)));
    },
  };
  return [fence, notHandled];
}

/** A later event of a key was applied in the same transaction in which an earlier one failed. */
class OutOfOrder extends Error {
  override readonly name = "OutOfOrder";
  readonly keys: ReadonlySet<string>;

  constructor(keys: ReadonlySet<string>) {
    super("a key's later event was applied without its earlier one");
    this.keys = keys;
  }
}

class AlreadyHandled extends Error {
  override readonly name = "AlreadyHandled";
  readonly ids: ReadonlySet<string>;

  constructor(ids: ReadonlySet<string>) {
    super("some events were handled before");
    this.ids = ids;
  }
}

/** Rethrows what isn't about events that were handled before. */
async function idsHandledBefore(group: ConsumerGroup, ready: readonly Ready[], error: unknown): Promise<ReadonlySet<string>> {
  if (error instanceof AlreadyHandled) return error.ids;
  if (!isUniqueViolation(error) || error.constraint !== "inbox_pkey") throw error;
  const ids = ready.map(({ entry }) => entry.inboxId);
  const handled = await handledIds(group.database, group.id, ids);
  if (handled.size === 0) throw error;
  return handled;
}

function firstOfKeys(ready: readonly Ready[], keys: ReadonlySet<string>): Ready[] {
  const seen = new Set<string>();
  return ready.filter(({ entry }) => {
    const { key } = entry.record;
    const isLater = keys.has(key) && seen.has(key);
    seen.add(key);
    return !isLater;
  });
}
