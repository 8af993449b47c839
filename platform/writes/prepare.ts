import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { Caller } from "#platform/access/caller.ts";
import type { Kv } from "#platform/kv/kv.ts";
import type { Sql } from "#platform/postgres/database.ts";
import type { Use } from "#platform/resource.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Cancellable, Dependant } from "#platform/rpc/cancellation.ts";
import type { Peers } from "#platform/rpc/client.ts";
import type { Context } from "#platform/rpc/context.ts";
import type { ItemContext, PrepareContext } from "#platform/writes/definitions.ts";

/* What `prepare` runs in where nobody waits for its answer: for events and tasks. */

/** How long the `prepare` of one or several may take: one timer for all, and their calls end with it. */
export class TimeLimit implements Cancellable {
  readonly deadlineMs: number;
  /** Rejects when the time is up, or they are given up before. */
  readonly passed: Promise<never>;
  readonly #controller = new AbortController();
  readonly #dependants = new Set<Dependant>();
  readonly #timer: NodeJS.Timeout;
  readonly #reject: (error: unknown) => void;

  constructor(nowMs: number, timeoutMs: number, message: string) {
    this.deadlineMs = nowMs + timeoutMs;
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => undefined);
    this.passed = promise;
    this.#reject = reject;
    this.#timer = setTimeout(() => this.giveUp(new CallError("DEADLINE_EXCEEDED", "deadline_exceeded", message)), timeoutMs);
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

  giveUp(error: unknown): void {
    this.end();
    this.#controller.abort(error);
    this.#reject(error);
    for (const dependant of this.#dependants) dependant.cancel();
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}

/** What the calls of one `prepare` are made in. */
export class PrepareCall implements Context {
  readonly caller: Caller;
  readonly traceparent: string;
  readonly cancellation: TimeLimit;
  // There is no client's key: what is called is told apart by business ids.
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

/** What one `prepare` sees. */
export class PrepareView implements PrepareContext {
  readonly sql: Sql;
  readonly kv: Kv;
  readonly use: Use;
  readonly peer: Peers;
  readonly signal: AbortSignal;
  readonly #item: ItemContext;

  constructor(item: ItemContext, { sql, kv, use, peer, signal }: Omit<PrepareContext, keyof ItemContext>) {
    this.sql = sql;
    this.kv = kv;
    this.use = use;
    this.peer = peer;
    this.signal = signal;
    this.#item = item;
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
}
