import type { Caller } from "#platform/access/caller.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Cancellable, Dependant } from "#platform/rpc/cancellation.ts";
import type { Context } from "#platform/rpc/context.ts";
import { type Timed, unwatch, watch } from "#platform/rpc/deadlines.ts";
import type { Origin } from "#platform/rpc/origin.ts";
import type { Call } from "#platform/rpc/transport.ts";
import type { Span } from "#platform/telemetry/tracing.ts";

/**
 * One call while it is served: what its handler sees of it, and what lets its caller go in time. A call in process costs
 * a few microseconds, so what few handlers ask for (the signal) is made when it is asked for, and calls made inside this
 * one hang on it directly.
 */
export class ServedCall implements Context, Timed, Dependant, Cancellable {
  readonly caller: Caller;
  readonly deadlineMs: number;
  readonly idempotencyKey: string | undefined;
  readonly origin: Origin | undefined;
  readonly #span: Span;
  readonly #cancellation: Cancellable | undefined;
  readonly #letGo: (error: CallError) => void;
  #ended = false;
  #givenUp: CallError | undefined;
  #controller: AbortController | undefined;
  #dependants: Set<Dependant> | undefined;

  /** `letGo` is called once, when the caller is no longer to be waited for; never after `end`. */
  constructor(call: Call, deadlineMs: number, span: Span, letGo: (error: CallError) => void) {
    this.caller = call.caller;
    this.deadlineMs = deadlineMs;
    this.idempotencyKey = call.idempotencyKey;
    this.origin = call.origin;
    this.#cancellation = call.cancellation;
    this.#span = span;
    this.#letGo = letGo;
  }

  /** Its calls hang on it directly: an AbortSignal would be made for nothing. */
  get cancellation(): Cancellable {
    return this;
  }

  get traceparent(): string {
    return this.#span.traceparent;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#givenUp !== undefined) this.#controller.abort(this.#givenUp);
    }
    return this.#controller.signal;
  }

  /** The call is answered, or was let go. */
  get ended(): boolean {
    return this.#ended;
  }

  get cancelled(): boolean {
    return this.#givenUp !== undefined;
  }

  /** Why the caller was let go. */
  get givenUp(): CallError | undefined {
    return this.#givenUp;
  }

  /** Watches the deadline and the caller; where it is over already, the caller is let go at once. */
  begin(): void {
    if (this.#cancellation?.cancelled === true || this.deadlineMs <= Date.now()) this.cancel();
    else {
      this.#cancellation?.add(this);
      watch(this);
    }
  }

  /** After this the caller is let go no more. The signal doesn't fire: what the handler left running is its own affair. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#cancellation?.remove(this);
    unwatch(this);
  }

  expire(): void {
    this.#giveUp(deadlineExceeded());
  }

  cancel(): void {
    this.#giveUp(cancelledBefore(this.deadlineMs));
  }

  /** Ends a stream whose reader went away: the handler's signal fires. */
  abandon(): void {
    this.end();
    this.#fire(cancelled());
  }

  add(dependant: Dependant): void {
    this.#dependants ??= new Set();
    this.#dependants.add(dependant);
  }

  remove(dependant: Dependant): void {
    this.#dependants?.delete(dependant);
  }

  #giveUp(error: CallError): void {
    if (this.#ended) return;
    this.end();
    this.#letGo(error);
    this.#fire(error);
  }

  #fire(error: CallError): void {
    if (this.#givenUp !== undefined) return;
    this.#givenUp = error;
    this.#controller?.abort(error);
    for (const dependant of this.#dependants ?? []) dependant.cancel();
  }
}

export const deadlineExceeded = (): CallError => new CallError("DEADLINE_EXCEEDED", "deadline_exceeded", "There was no answer in time.");

export const cancelled = (): CallError => new CallError("CANCELLED", "cancelled", "The caller gave up.");

const DEADLINE_SKEW_MS = 50;

/** Why a call was cancelled: who cancels at the deadline does so because of it, and over the wire that comes a moment early or late. */
export const cancelledBefore = (deadlineMs: number): CallError =>
  Date.now() >= deadlineMs - DEADLINE_SKEW_MS ? deadlineExceeded() : cancelled();
