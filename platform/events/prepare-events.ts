import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Caller, serviceCaller } from "#platform/access/caller.ts";
import type { ConsumerGroup, Entry } from "#platform/events/consumer-group.ts";
import { EventItem } from "#platform/events/event-item.ts";
import { isTransientFailure } from "#platform/events/failure-book.ts";
import type { Database } from "#platform/postgres/database.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Cancellable, Dependant } from "#platform/rpc/cancellation.ts";
import { type Peers, peersOf } from "#platform/rpc/client.ts";
import type { Context } from "#platform/rpc/context.ts";
import type { PrepareContext } from "#platform/writes/definitions.ts";

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
  const limit = new TimeLimit(group.clock(), group.timings.prepareTimeoutMs);
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

/** How long the events of a round may take to be prepared: one timer for all, and their calls end with it. */
class TimeLimit implements Cancellable {
  readonly deadlineMs: number;
  readonly passed: Promise<never>;
  readonly #controller = new AbortController();
  readonly #dependants = new Set<Dependant>();
  readonly #timer: NodeJS.Timeout;

  constructor(nowMs: number, timeoutMs: number) {
    this.deadlineMs = nowMs + timeoutMs;
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => undefined);
    this.passed = promise;
    this.#timer = setTimeout(() => {
      const error = new CallError("DEADLINE_EXCEEDED", "deadline_exceeded", "The event's preparation took too long.");
      this.#controller.abort(error);
      reject(error);
      for (const dependant of this.#dependants) dependant.cancel();
    }, timeoutMs);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get cancelled(): boolean {
    return this.#controller.signal.aborted;
  }

  add(dependant: Dependant): void {
    this.#dependants.add(dependant);
  }

  remove(dependant: Dependant): void {
    this.#dependants.delete(dependant);
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}

/** What the calls of one event's `prepare` are made in. */
class PrepareCall implements Context {
  readonly caller: Caller;
  readonly traceparent: string;
  readonly cancellation: TimeLimit;
  // An event has no client's key: what it calls is told apart by business ids.
  readonly idempotencyKey = undefined;

  constructor(caller: Caller, traceparent: string, limit: TimeLimit) {
    this.caller = caller;
    this.traceparent = traceparent;
    this.cancellation = limit;
  }

  get deadlineMs(): number {
    return this.cancellation.deadlineMs;
  }

  get signal(): AbortSignal {
    return this.cancellation.signal;
  }

  get cancelled(): boolean {
    return this.cancellation.cancelled;
  }
}

/** What one event's `prepare` sees. */
class PrepareView implements PrepareContext {
  readonly sql: Database;
  readonly peer: Peers;
  readonly #item: EventItem;
  readonly #limit: TimeLimit;

  constructor(item: EventItem, sql: Database, peer: Peers, limit: TimeLimit) {
    this.sql = sql;
    this.peer = peer;
    this.#item = item;
    this.#limit = limit;
  }

  get caller(): Caller {
    return this.#item.caller;
  }

  get id(): string {
    return this.#item.id;
  }

  get commandId(): string {
    return this.#item.commandId;
  }

  get now(): Timestamp {
    return this.#item.now;
  }

  get signal(): AbortSignal {
    return this.#limit.signal;
  }
}

async function prepareOne(group: ConsumerGroup, made: Extract<Made, { kind: "ready" }>, limit: TimeLimit): Promise<Prepared> {
  const { entry, item } = made;
  const { prepare } = entry.handler.parts;
  if (prepare === undefined) return made;
  const context = new PrepareCall(item.caller, entry.record.traceparent, limit);
  try {
    const running = prepare(item.input, new PrepareView(item, group.database, peersOf(context, group), limit));
    item.prepared = await Promise.race([running, limit.passed]);
    group.failures.served(entry.record.type);
    return made;
  } catch (error) {
    return isTransientFailure(error) ? { kind: "transient", entry, error, verdict: "wait" } : { kind: "fault", entry, error };
  }
}
