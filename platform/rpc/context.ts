import type { Caller } from "#platform/access/caller.ts";
import type { Cancellable } from "#platform/rpc/cancellation.ts";
import type { Origin } from "#platform/rpc/origin.ts";

/**
 * What travels with a call, the same in process and over gRPC. Hand it on as it is: some of it is made when it is first
 * read, so a copy by `{ ...context }` lacks it.
 */
export type Context = {
  readonly caller: Caller;
  /** Milliseconds since the epoch; past it the caller is let go and `signal` fires. Infinity for a stream without an end. */
  readonly deadlineMs: number;
  /** Fires at the deadline and when the caller gives up; its reason is the CallError that the caller got. */
  readonly signal: AbortSignal;
  /** Whether `signal` has fired; asking costs nothing. */
  readonly cancelled: boolean;
  /** What the calls made in this one end with. Where it is missing, with `signal`, which costs a listener a call. */
  readonly cancellation?: Cancellable;
  /** W3C trace context of the span that the call belongs to. */
  readonly traceparent: string;
  /** The client's `Idempotency-Key`, or one that the gateway made. */
  readonly idempotencyKey: string | undefined;
  /** Undefined for what no client outside has asked for. */
  readonly origin?: Origin | undefined;
};

/** What a caller may say of one call; what is left out is inherited or a default. */
export type CallOptions = {
  /** Milliseconds; never past the deadline of the call that this one is made in. Infinity only for methods that stream their answers. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  readonly idempotencyKey?: string;
  readonly traceparent?: string;
};
