import type { DescMessage, Message } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Clock, systemClock } from "#platform/clock.ts";
import { methodName, methodOptions } from "#platform/contract/method-options.ts";
import type { ApplyItems, ApplyOutcome, Guards } from "#platform/events/apply.ts";
import { uuidv7 } from "#platform/ids.ts";
import type { Database } from "#platform/postgres/database.ts";
import { isConnectionLost, isDataError, OutcomeUnknown } from "#platform/postgres/errors.ts";
import { isRejection, type Rejection, reject } from "#platform/rejection.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Peers } from "#platform/rpc/client.ts";
import type { Context } from "#platform/rpc/context.ts";
import { withoutCalls } from "#platform/rpc/no-calls.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";
import { type BatchItem, type BatchResult, isolateBatch, noGuards, runBatch } from "#platform/writes/batch.ts";
import type { ItemContext, Operation, RunOperation } from "#platform/writes/definitions.ts";
import { type Command, commandOf, findAnswer, repeatedAnswer } from "#platform/writes/idempotency.ts";

export type WriterSettings = {
  /** Past it a caller is told to try later. */
  readonly waitingMax: number;
  readonly batchMax: number;
  /** Batches at once: the database works on one while the next is made. Rows in common wait for each other by their locks. */
  readonly inFlightMax: number;
};

export const writerDefaults: WriterSettings = { waitingMax: 10_000, batchMax: 1024, inFlightMax: 3 };

type Waiting = { readonly item: BatchItem; readonly context: Context; readonly resolve: (outcome: ApplyOutcome) => void; readonly reject: (error: unknown) => void };

/** Carries out what changes the state of one service: many commands in one transaction, and no command knows. */
export class Writer {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #settings: WriterSettings;
  readonly #publishes: ReadonlySet<DescMessage>;
  readonly #published: () => void;
  readonly #queue: Waiting[] = [];
  /** Commands that run here now, before their batch: a repeat waits for the first. */
  readonly #running = new Map<string, Promise<unknown>>();
  readonly #sizes;
  readonly #durations;
  readonly #labels: { readonly service: string };
  #inFlight = 0;
  #scheduled = false;

  /** `publishes` are the events that the service may publish; `published` is told after each commit that left events in the outbox. */
  constructor(options: {
    service: string;
    database: Database;
    metrics: Metrics;
    publishes: readonly DescMessage[];
    published: () => void;
    clock?: Clock;
    settings?: Partial<WriterSettings>;
  }) {
    this.#database = options.database;
    this.#clock = options.clock ?? systemClock;
    this.#settings = { ...writerDefaults, ...options.settings };
    this.#publishes = new Set(options.publishes);
    this.#published = options.published;
    this.#labels = { service: options.service };
    this.#sizes = options.metrics.histogram("polis_batch_items", "Commands and events carried out in one transaction", ["service"], [1, 4, 16, 64, 256, 1024]);
    this.#durations = options.metrics.histogram("polis_batch_duration_seconds", "From the start of a batch to its commit", ["service"]);
  }

  /** One command: `prepare` now, the rest in a batch. */
  async execute({ method, parts }: Operation, request: Message, context: Context, peer: Peers): Promise<Message | Rejection> {
    const keyed = methodOptions(method).idempotency === "KEYED" && context.idempotencyKey !== undefined;
    const command = keyed ? commandOf(method, context.caller, context.idempotencyKey as string, request) : undefined;
    const item = { ...this.#itemContext(context, command), parts, input: request, prepared: undefined, command, trace: traceOf(context) };
    if (parts.prepare === undefined) return this.#answer(item, context);
    if (command === undefined) return this.#answer(await this.#prepared(item, context, peer), context);
    return this.#once(command, async () => (await this.#knownAnswer(command)) ?? this.#answer(await this.#prepared(item, context, peer), context));
  }

  /** One command that writes by SQL of its own, in a transaction to itself. */
  async run({ run, method }: RunOperation, request: Message, context: Context): Promise<Message | Rejection> {
    const item = this.#itemContext(context, undefined);
    try {
      const answer = await this.#database.transaction((tx) => withoutCalls(() => run(tx, request, item)));
      if (isRejection(answer)) throw new Error(`${methodName(method)}: a rejection can't take back what run() wrote; throw instead`);
      return answer as Message;
    } catch (error) {
      throw callErrorOf(error);
    }
  }

  /** Carries out `items` in one transaction at once; see ApplyItems. */
  readonly apply: ApplyItems = async (items, guards) => {
    const end = this.#durations.startTimer(this.#labels);
    this.#sizes.observe(this.#labels, items.length);
    const { outcomes, published } = await this.#transact(items, guards);
    end();
    if (published > 0) this.#published();
    return outcomes;
  };

  get waiting(): number {
    return this.#queue.length;
  }

  async #transact(items: readonly BatchItem[], guards: Guards): Promise<BatchResult> {
    const batch = { items, guards, publishes: this.#publishes };
    // A unique index that refuses a row tells of a race as a rule: read anew, the batch sees the row it ran into.
    for (const attempt of [runBatch, runBatch]) {
      try {
        return await this.#database.transaction((tx) => attempt(tx, batch));
      } catch (error) {
        if (!isDataError(error)) throw error;
      }
    }
    return this.#database.transaction((tx) => isolateBatch(tx, batch));
  }

  /** A no from a peer is this command's no, and is decided like any other: in the batch, where it is stored. */
  async #prepared(item: BatchItem & { command: Command | undefined }, context: Context, peer: Peers): Promise<BatchItem> {
    try {
      const value = await item.parts.prepare?.(item.input, { ...item, sql: this.#database, peer, signal: context.signal });
      return { ...item, prepared: value };
    } catch (error) {
      const declared = item.command === undefined ? undefined : methodOptions(item.command.method).rejections;
      if (!(error instanceof CallError) || declared?.has(error.code) !== true) throw error;
      return { ...item, parts: { write: () => reject(error.code, error.message) } };
    }
  }

  #itemContext(context: Context, command: Command | undefined): ItemContext {
    const nowMs = this.#clock();
    const id = uuidv7(nowMs);
    return { caller: context.caller, id, commandId: command?.key ?? id, now: timestampFromMs(nowMs) };
  }

  async #knownAnswer(command: Command): Promise<Message | Rejection | undefined> {
    const stored = await findAnswer(this.#database, command).catch((error: unknown) => {
      throw callErrorOf(error);
    });
    return stored === undefined ? undefined : repeatedAnswer(command, stored);
  }

  async #once<T>(command: Command, run: () => Promise<T>): Promise<T> {
    for (let first = this.#running.get(command.key); first !== undefined; first = this.#running.get(command.key)) await first.catch(() => undefined);
    const running = run();
    this.#running.set(command.key, running);
    try {
      return await running;
    } finally {
      this.#running.delete(command.key);
    }
  }

  async #answer(item: BatchItem, context: Context): Promise<Message | Rejection> {
    if (this.#queue.length >= this.#settings.waitingMax)
      throw new CallError("RESOURCE_EXHAUSTED", "overloaded", "Too much is waiting; try again later.", { retryAfterMs: 1000 });
    const outcome = await new Promise<ApplyOutcome>((resolve, reject) => {
      this.#queue.push({ item, context, resolve, reject });
      this.#schedule();
    });
    if (outcome.kind === "failed") throw outcome.error;
    return outcome.answer as Message | Rejection;
  }

  #schedule(): void {
    if (this.#scheduled || this.#inFlight >= this.#settings.inFlightMax) return;
    this.#scheduled = true;
    // After what has arrived in this turn of the event loop: all of it shares the batch.
    setImmediate(() => {
      this.#scheduled = false;
      void this.#runNext();
    });
  }

  async #runNext(): Promise<void> {
    const taken = this.#queue.splice(0, this.#settings.batchMax);
    // Dropped before its batch, never after: what is in a batch is carried out and answered.
    const batch = taken.filter(({ context, reject }) => {
      const late = context.deadlineMs <= this.#clock();
      if (late || context.cancelled) reject(new CallError(late ? "DEADLINE_EXCEEDED" : "CANCELLED", late ? "deadline_exceeded" : "cancelled", "Given up before it was begun."));
      return !late && !context.cancelled;
    });
    if (batch.length > 0) this.#inFlight += 1;
    if (this.#queue.length > 0) this.#schedule();
    if (batch.length === 0) return;
    try {
      const outcomes = await this.apply(batch.map(({ item }) => item), noGuards);
      for (const [index, { resolve }] of batch.entries()) resolve(outcomes[index] as ApplyOutcome);
    } catch (error) {
      const callError = callErrorOf(error);
      for (const { reject } of batch) reject(callError);
    } finally {
      this.#inFlight -= 1;
      if (this.#queue.length > 0) this.#schedule();
    }
  }
}

const traceOf = (context: Context) => ({ traceparent: context.traceparent, causationId: "" });

/** With the outcome unknown as well, trying again is right: the command's key tells whether it was carried out. */
const callErrorOf = (error: unknown): unknown =>
  isConnectionLost(error) || error instanceof OutcomeUnknown
    ? new CallError("UNAVAILABLE", "unavailable", "The database can't be reached; try again.", { retryAfterMs: 1000, cause: error })
    : error;
