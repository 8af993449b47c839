import type { DescMethod, Message } from "@bufbuild/protobuf";
import type { Caller } from "#platform/access/caller.ts";

/** What the edge says of each call. */
export type Call = {
  readonly caller: Caller;
  readonly idempotencyKey: string | undefined;
  readonly traceparent: string;
  /** Past it the call is answered with DEADLINE_EXCEEDED, by whoever carries it. */
  readonly timeoutMs: number;
  /** Fires when the client has gone, or the process stops and the call is a stream. */
  readonly signal: AbortSignal;
};

/** How the edge reaches methods: in this process or over gRPC. What it throws is a CallError; anything else counts as a fault. */
export type Invoke = {
  unary(method: DescMethod, request: Message, call: Call): Promise<Message>;
  serverStream(method: DescMethod, request: Message, call: Call): AsyncIterable<Message>;
  clientStream(method: DescMethod, requests: AsyncIterable<Message>, call: Call): Promise<Message>;
};
