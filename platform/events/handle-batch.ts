import { applyEvents, isReady } from "#platform/events/apply-events.ts";
import { type ConsumerGroup, type Entry, makeEntry, type PartitionWork } from "#platform/events/consumer-group.ts";
import type { FetchedBatch } from "#platform/events/event-log.ts";
import { parkedAfter, type Stop, type Stops, waitingBehind } from "#platform/events/park-events.ts";
import { type Prepared, prepareEvents } from "#platform/events/prepare-events.ts";
import { pause } from "#platform/events/signal.ts";
import { growingPauseMs } from "#platform/events/timings.ts";
import { handledIds } from "#platform/inbox/inbox.ts";
import { causeOf } from "#platform/rpc/cause-of.ts";

/** While nothing gets through, no more than so many events are tried at a time. */
const PROBES_AT_A_TIME = 16;

/**
 * Handles a batch of a partition in rounds, until each of its events is applied, known already, or parked. Where `prepare`
 * fails transiently, its event and what follows under its key stay for a further round, after a pause that grows, without end.
 * Throws FencedError, what the database throws, and once the partition is given up.
 */
export async function handleBatch(group: ConsumerGroup, work: PartitionWork, batch: FetchedBatch): Promise<void> {
  const { topic, partition, signal } = work.assignment;
  const labels = { group: group.name, topic, partition: String(partition) };
  try {
    let pending = await freshEntries(group, batch);
    for (let failures = 0; pending.length > 0; ) {
      const round = await work.exclusive(() => runRound(group, work, pending, failures > 0));
      const progressed = round.left.length < pending.length;
      pending = round.left;
      if (round.transient === undefined) failures = 0;
      else failures = progressed ? 1 : failures + 1;
      if (failures === 0) continue;
      if (failures === 1)
        group.logger.warn({ err: round.transient, topic, partition, events: pending.length }, "events wait for a neighbour");
      group.paused.set(labels, 1);
      await pause(growingPauseMs(failures, group.timings), signal);
      if (signal.aborted) throw new Error("the partition was given up");
    }
    group.paused.set(labels, 0);
  } catch (error) {
    // Paused by the log then, which brings the batch again.
    group.paused.set(labels, 1);
    throw error;
  }
}

/** The events that the consumer names, each once, and, where there is something to prepare, without those it has handled. */
async function freshEntries(group: ConsumerGroup, { records }: FetchedBatch): Promise<Entry[]> {
  const entries = new Map<string, Entry>();
  let named = 0;
  for (const record of records) {
    const handler = group.handlers.get(record.type);
    if (handler === undefined) continue;
    named += 1;
    const entry = makeEntry(record, handler);
    if (!entries.has(entry.inboxId)) entries.set(entry.inboxId, entry);
  }
  count(group, "skipped", records.length - named);
  if ([...entries.values()].some((entry) => entry.handler.parts.prepare !== undefined))
    for (const id of await handledIds(group.database, group.id, [...entries.keys()])) entries.delete(id);
  count(group, "duplicate", named - entries.size);
  return [...entries.values()];
}

const count = ({ handled, name }: ConsumerGroup, outcome: string, by: number): void => {
  if (by > 0) handled.inc({ group: name, outcome }, by);
};

type Round = { readonly left: Entry[] /** Why something is left for later. */; readonly transient: unknown };

async function runRound(group: ConsumerGroup, work: PartitionWork, pending: readonly Entry[], probing: boolean): Promise<Round> {
  const chosen = chooseRound(pending.filter((entry) => !work.parked.has(entry.record.key)));
  const prepared = await prepareEvents(group, probing ? chosen.slice(0, PROBES_AT_A_TIME) : chosen);
  const stops = stopsOf(group, work, pending, prepared);
  const { applied, known, parked, stops: met } = await applyEvents(group, work, { pending, ready: prepared.filter(isReady), stops });
  for (const [key, { entry, error, parking }] of met) {
    if (parking === undefined) continue;
    if (!work.parked.has(key))
      group.logger.error(
        { err: error, eventId: entry.record.eventId, type: entry.record.type, state: parking.state },
        "an event is parked",
      );
    work.parked.add(key);
  }
  count(group, "applied", applied.length);
  count(group, "duplicate", known.length);
  count(group, "parked", parked.length);
  const done = new Set([...applied, ...known, ...parked]);
  const left = pending.filter((entry) => !done.has(entry));
  return { left, transient: [...met.values()].find((stop) => stop.parking === undefined)?.error };
}

/** One event of a key at a time where there is something to prepare: what the earlier one writes may decide what the later one asks. */
function chooseRound(entries: readonly Entry[]): Entry[] {
  const taken = new Set<string>();
  const closed = new Set<string>();
  return entries.filter(({ handler, record: { key } }) => {
    const prepares = handler.parts.prepare !== undefined;
    const fits = !closed.has(key) && !(prepares && taken.has(key));
    taken.add(key);
    if (prepares || !fits) closed.add(key);
    return fits;
  });
}

/** Where keys stop before anything is applied: behind what is parked, and at what can't be prepared. */
function stopsOf(group: ConsumerGroup, work: PartitionWork, pending: readonly Entry[], prepared: readonly Prepared[]): Stops {
  const stops = new Map<string, Stop>();
  for (const entry of pending) {
    const { key } = entry.record;
    if (work.parked.has(key) && !stops.has(key)) stops.set(key, { entry, error: undefined, parking: waitingBehind(entry.record) });
  }
  for (const one of prepared) {
    if (one.kind === "ready" || stops.has(one.entry.record.key)) continue;
    const { entry, error } = one;
    const { record } = entry;
    if (one.kind === "fault") stops.set(record.key, { entry, error, parking: { record, ...parkedAfter(group, 1, error) } });
    else {
      // One at a time: were the neighbour away, all events would end up aside.
      const isAside = one.verdict === "aside" && work.aside === undefined;
      if (isAside) work.aside = record.key;
      const afterMs = isAside ? group.timings.longestPauseMs : 0;
      const state = one.verdict === "poison" ? "dead" : "retrying";
      const isParked = one.verdict === "poison" || isAside;
      stops.set(record.key, { entry, error, parking: isParked ? { record, state, tries: 0, afterMs, cause: causeOf(error) } : undefined });
    }
  }
  return stops;
}
