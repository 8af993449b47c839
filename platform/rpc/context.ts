import type { Caller } from "#platform/access/caller.ts";

/** What travels with a call, the same in process and over gRPC. */
export type Context = {
  readonly caller: Caller;
  /** Milliseconds since the epoch; past it the caller is let go and `signal` fires. */
  readonly deadlineMs: number;
  /** Fires at the deadline and when the caller gives up. */
  readonly signal: AbortSignal;
  /** W3C trace context of the span that the call belongs to. */
  readonly traceparent: string;
  /** The client's `Idempotency-Key`, or one that the gateway made. */
  readonly idempotencyKey: string | undefined;
};

/** What a caller may say of one call; what is left out is inherited or a default. */
export type CallOptions = {
  /** Milliseconds; never past the deadline of the call that this one is made in. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  readonly idempotencyKey?: string;
  readonly traceparent?: string;
};
