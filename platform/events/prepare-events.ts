import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { serviceCaller } from "#platform/access/caller.ts";
import type { ApplyItem } from "#platform/events/apply.ts";
import type { ConsumerGroup, Entry } from "#platform/events/consumer-group.ts";
import type { EventMessage } from "#platform/events/define-consumer.ts";
import { isTransientFailure } from "#platform/events/failure-book.ts";
import { derivedUuid, uuidv7 } from "#platform/ids.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { peersOf } from "#platform/rpc/client.ts";
import type { Context } from "#platform/rpc/context.ts";

/** How far an event has come: ready to be applied, or why it isn't. */
export type Prepared =
  | { readonly kind: "ready"; readonly entry: Entry; readonly item: ApplyItem }
  | { readonly kind: "transient"; readonly entry: Entry; readonly error: unknown; readonly verdict: "wait" | "aside" | "poison" }
  | { readonly kind: "fault"; readonly entry: Entry; readonly error: unknown };

/** Runs the `prepare` of all events at once, within one time limit. The order of the result is that of `entries`. */
export async function prepareEvents(group: ConsumerGroup, entries: readonly Entry[]): Promise<Prepared[]> {
  if (entries.every((entry) => entry.handler.parts.prepare === undefined)) return entries.map((entry) => prepareNothing(group, entry));
  const limit = timeLimit(group);
  const servedBefore = new Map([...group.handlers.keys()].map((type) => [type, group.failures.servedCount(type)]));
  try {
    const prepared = await Promise.all(entries.map((entry) => prepareOne(group, entry, limit)));
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

type TimeLimit = { readonly deadlineMs: number; readonly signal: AbortSignal; readonly passed: Promise<never>; end(): void };

/** One timer for a whole round. */
function timeLimit({ timings, clock }: ConsumerGroup): TimeLimit {
  const controller = new AbortController();
  const { promise: passed, reject } = Promise.withResolvers<never>();
  passed.catch(() => undefined);
  const timer = setTimeout(() => {
    const error = new CallError("DEADLINE_EXCEEDED", "deadline_exceeded", "The event's preparation took too long.");
    controller.abort(error);
    reject(error);
  }, timings.prepareTimeoutMs);
  return { deadlineMs: clock() + timings.prepareTimeoutMs, signal: controller.signal, passed, end: () => clearTimeout(timer) };
}

function prepareNothing(group: ConsumerGroup, entry: Entry): Prepared {
  const { read } = entry;
  return "error" in read ? { kind: "fault", entry, error: read.error } : { kind: "ready", entry, item: makeItem(group, entry, read.event) };
}

async function prepareOne(group: ConsumerGroup, entry: Entry, limit: TimeLimit): Promise<Prepared> {
  const { read, handler, record } = entry;
  const { prepare } = handler.parts;
  if ("error" in read || prepare === undefined) return prepareNothing(group, entry);
  const item = makeItem(group, entry, read.event);
  const context: Context = {
    caller: item.caller,
    deadlineMs: limit.deadlineMs,
    signal: limit.signal,
    get cancelled() {
      return limit.signal.aborted;
    },
    traceparent: record.traceparent,
    // A repeat of this event repeats its calls under the same key.
    idempotencyKey: item.commandId,
  };
  const { caller, id, commandId, now } = item;
  try {
    const peer = peersOf(context, group);
    const running = prepare(read.event.data, { caller, id, commandId, now, sql: group.database, peer, signal: limit.signal });
    const prepared: unknown = await Promise.race([running, limit.passed]);
    group.failures.served(record.type);
    return { kind: "ready", entry, item: { ...item, prepared } };
  } catch (error) {
    return isTransientFailure(error) ? { kind: "transient", entry, error, verdict: "wait" } : { kind: "fault", entry, error };
  }
}

function makeItem(group: ConsumerGroup, { record, inboxId, handler }: Entry, event: EventMessage): ApplyItem {
  const nowMs = group.clock();
  return {
    parts: handler.parts,
    input: event.data,
    prepared: undefined,
    caller: serviceCaller(group.service),
    id: uuidv7(nowMs),
    commandId: derivedUuid(group.name, inboxId),
    now: timestampFromMs(nowMs),
    trace: { traceparent: record.traceparent, causationId: record.eventId },
  };
}
