import type { Message } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Caller } from "#platform/access/caller.ts";
import type { ApplyItem } from "#platform/events/apply.ts";
import { uuidv7 } from "#platform/ids.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Context } from "#platform/rpc/context.ts";
import type { Origin } from "#platform/rpc/origin.ts";
import type { BatchItem } from "#platform/writes/batch.ts";
import type { Operation } from "#platform/writes/definitions.ts";
import type { Command } from "#platform/writes/idempotency.ts";
import { type NamedRows, namedRows } from "#platform/writes/named-rows.ts";

/** A call on its way into a batch. What many operations never ask for is made when it is first read. */
export class CommandItem implements ApplyItem, BatchItem {
  readonly input: Message;
  readonly now: Timestamp;
  readonly command: Command | undefined;
  parts: Operation["parts"];
  prepared: unknown;
  /** Its `prepare` has begun: peers may have done something for it. */
  isBegun = false;
  readonly context: Context;
  readonly #nowMs: number;
  #id: string | undefined;
  #named: NamedRows | undefined;

  constructor(operation: Operation, input: Message, context: Context, command: Command | undefined, nowMs: number) {
    this.parts = operation.parts;
    this.input = input;
    this.context = context;
    this.command = command;
    this.#nowMs = nowMs;
    this.now = timestampFromMs(nowMs);
  }

  get item(): ApplyItem {
    return this;
  }

  get caller(): Caller {
    return this.context.caller;
  }

  get id(): string {
    this.#id ??= uuidv7(this.#nowMs);
    return this.#id;
  }

  get commandId(): string {
    return this.command?.key ?? this.id;
  }

  get origin(): Origin | undefined {
    return this.context.origin;
  }

  /** Once `prepared` stands. */
  get named(): NamedRows {
    this.#named ??= namedRows(this);
    return this.#named;
  }

  /** Why it needn't be begun any more; never once its peers were asked. */
  givenUp(nowMs: number): CallError | undefined {
    if (this.isBegun) return undefined;
    if (this.context.deadlineMs <= nowMs) return new CallError("DEADLINE_EXCEEDED", "deadline_exceeded", "Given up before it was begun.");
    return this.context.cancelled ? new CallError("CANCELLED", "cancelled", "Given up before it was begun.") : undefined;
  }

  get trace(): ApplyItem["trace"] {
    return { traceparent: this.context.traceparent, causationId: "" };
  }
}
