import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { serviceCaller } from "#platform/access/caller.ts";
import type { ConsumerGroup, Entry } from "#platform/events/consumer-group.ts";
import { EventItem } from "#platform/events/event-item.ts";
import { isTransientFailure } from "#platform/events/failure-book.ts";
import { peersOf } from "#platform/rpc/client.ts";
import { PrepareCall, PrepareView, TimeLimit } from "#platform/writes/prepare.ts";

/** How far an event has come: ready to be applied, or why it isn't. */
export type Prepared =
  | { readonly kind: "ready"; readonly entry: Entry; readonly item: EventItem }
  | { readonly kind: "transient"; readonly entry: Entry; readonly error: unknown; readonly verdict: "wait" | "aside" | "poison" }
  | { readonly kind: "fault"; readonly entry: Entry; readonly error: unknown };

/** Runs the `prepare` of all events at once, within one time limit. The order of the result is that of `entries`. */
export async function prepareEvents(group: ConsumerGroup, entries: readonly Entry[]): Promise<Prepared[]> {
  const round = { group: group.name, caller: serviceCaller(group.service), now: timestampFromMs(group.clock()) };
  const made = entries.map((entry) => makeItem(entry, round));
  if (entries.every(({ handler }) => handler.parts.prepare === undefined)) return made;
  const limit = new TimeLimit(group.clock(), group.timings.prepareTimeoutMs, "The event's preparation took too long.");
  const servedBefore = new Map([...group.handlers.keys()].map((type) => [type, group.failures.servedCount(type)]));
  try {
    const prepared = await Promise.all(made.map((one) => (one.kind === "ready" ? prepareOne(group, one, limit) : one)));
    return prepared.map((one) => {
      if (one.kind === "ready") group.failures.forget(one.entry.inboxId);
      if (one.kind !== "transient") return one;
      const { type } = one.entry.record;
      return { ...one, verdict: group.failures.failed(one.entry.inboxId, type, servedBefore.get(type) ?? 0) };
    });
  } finally {
    limit.end();
  }
}

type Made = Exclude<Prepared, { kind: "transient" }>;
type Round = ConstructorParameters<typeof EventItem>[2];

function makeItem(entry: Entry, round: Round): Made {
  const { read } = entry;
  return "error" in read
    ? { kind: "fault", entry, error: read.error }
    : { kind: "ready", entry, item: new EventItem(entry, read.event, round) };
}

async function prepareOne(group: ConsumerGroup, made: Extract<Made, { kind: "ready" }>, limit: TimeLimit): Promise<Prepared> {
  const { entry, item } = made;
  const { prepare } = entry.handler.parts;
  if (prepare === undefined) return made;
  const context = new PrepareCall(item.caller, entry.record.traceparent, limit);
  try {
    const { database: sql, equipment } = group;
    const view = new PrepareView(item, { ...equipment, sql, peer: peersOf(context, group), signal: limit.signal });
    const running = prepare(item.input, view);
    item.prepared = await Promise.race([running, limit.passed]);
    group.failures.served(entry.record.type);
    return made;
  } catch (error) {
    return isTransientFailure(error) ? { kind: "transient", entry, error, verdict: "wait" } : { kind: "fault", entry, error };
  }
}
