import type { DescMethod, Message } from "@bufbuild/protobuf";
import type { Caller } from "#platform/access/caller.ts";
import type { Cancellable } from "#platform/rpc/cancellation.ts";
import type { Origin } from "#platform/rpc/origin.ts";

/** What goes with one call from a client to an endpoint. */
export type Call = {
  readonly caller: Caller;
  /** Milliseconds since the epoch; Infinity: none was named. */
  readonly deadlineMs: number;
  /** What ends the call before its time. */
  readonly cancellation: Cancellable | undefined;
  readonly traceparent: string | undefined;
  readonly idempotencyKey: string | undefined;
  readonly origin?: Origin | undefined;
};

/**
 * The way from a client to a service's endpoint; an endpoint itself is the way within a process. Whoever hands a message in
 * doesn't keep it (createClient copies), whoever gets one out owns it. Everything that is thrown is a CallError. A stream
 * starts when it is first read and ends with its reader.
 */
export type Transport = {
  unary(method: DescMethod, request: Message, call: Call): Promise<Message>;
  serverStreaming(method: DescMethod, request: Message, call: Call): AsyncIterable<Message>;
  clientStreaming(method: DescMethod, requests: AsyncIterable<Message>, call: Call): Promise<Message>;
  bidiStreaming(method: DescMethod, requests: AsyncIterable<Message>, call: Call): AsyncIterable<Message>;
};
