import type { DescMessage, DescMethodUnary, Message } from "@bufbuild/protobuf";
import { type Clock, systemClock } from "#platform/clock.ts";
import { methodOptions } from "#platform/contract/method-options.ts";
import type { ApplyItems, ApplyOutcome, Guards } from "#platform/events/apply.ts";
import type { Database, Transaction } from "#platform/postgres/database.ts";
import { isUniqueViolation } from "#platform/postgres/errors.ts";
import { isRejection, type Rejection, reject } from "#platform/rejection.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Peers } from "#platform/rpc/client.ts";
import type { Context } from "#platform/rpc/context.ts";
import { withoutCalls } from "#platform/rpc/no-calls.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";
import { type BatchItem, type BatchResult, isFaultOfAnItem, isolateBatch, noGuards, runBatch } from "#platform/writes/batch.ts";
import { callErrorOf } from "#platform/writes/call-error-of.ts";
import { CommandItem } from "#platform/writes/command-item.ts";
import { CommandQueue, type Waiting } from "#platform/writes/command-queue.ts";
import type { Operation, RunOperation } from "#platform/writes/definitions.ts";
import { answers, type Command, commandOf, findAnswer, repeatedAnswer, storedAnswer } from "#platform/writes/idempotency.ts";
import { insertStatement, rowsOf, selectStatement } from "#platform/writes/table.ts";

export type WriterSettings = {
  /** Commands that wait or are carried out; past it a caller is told to try later. */
  readonly waitingMax: number;
  readonly batchMax: number;
  /** Batches at once: the database works on one while the next is made. Rows in common wait for each other by their locks. */
  readonly inFlightMax: number;
};

const writerDefaults: WriterSettings = { waitingMax: 10_000, batchMax: 1024, inFlightMax: 3 };

/** Carries out what changes the state of one service: many commands in one transaction, and no command knows. */
export class Writer {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #settings: WriterSettings;
  readonly #publishes: ReadonlySet<DescMessage>;
  readonly #published: () => void;
  readonly #queue = new CommandQueue();
  /** Commands that run here now, before their batch: a repeat waits for the first. */
  readonly #running = new Map<string, Promise<Message | Rejection>>();
  readonly #sizes;
  readonly #durations;
  readonly #labels: { readonly service: string };
  #admitted = 0;
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
    this.#sizes = options.metrics.histogram(
      "polis_batch_items",
      "Commands and events carried out in one transaction",
      ["service"],
      [1, 4, 16, 64, 256, 1024],
    );
    this.#durations = options.metrics.histogram("polis_batch_duration_seconds", "From the start of a batch to its commit", ["service"]);
  }

  /** One command: `prepare` now, the rest in a batch. */
  execute(operation: Operation, request: Message, context: Context, peersFor: (context: Context) => Peers): Promise<Message | Rejection> {
    const command = keyedCommand(operation.method, request, context);
    const item = new CommandItem(operation, request, context, command, this.#clock());
    return this.#admit(() => {
      if (operation.parts.prepare === undefined) return this.#answer(item);
      return this.#once(command, async () => this.#answer(await this.#prepare(item, peersFor(context))));
    });
  }

  /** One command that writes by SQL of its own, in a transaction to itself; a rejection takes back what it wrote. */
  run(operation: RunOperation, request: Message, context: Context): Promise<Message | Rejection> {
    const command = keyedCommand(operation.method, request, context);
    const parts = { write: () => reject("unreachable") };
    const item = new CommandItem({ kind: "operation", method: operation.method, parts }, request, context, command, this.#clock());
    return this.#admit(() => this.#once(command, () => this.#runAlone(operation, item)));
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

  async #transact(items: readonly BatchItem[], guards: Guards): Promise<BatchResult> {
    const batch = { items, guards, publishes: this.#publishes };
    // A unique index that refuses a row tells of a race as a rule: read anew, the batch sees the row it ran into.
    for (const attempt of [runBatch, runBatch]) {
      try {
        return await this.#database.transaction((tx) => attempt(tx, batch));
      } catch (error) {
        if (!isFaultOfAnItem(error)) throw error;
      }
    }
    return this.#database.transaction((tx) => isolateBatch(tx, batch));
  }

  /** What is past the bound is refused here, before any of it has happened: never after a peer was asked to do something. */
  async #admit(run: () => Promise<Message | Rejection>): Promise<Message | Rejection> {
    if (this.#admitted >= this.#settings.waitingMax)
      throw new CallError("RESOURCE_EXHAUSTED", "overloaded", "Too much is waiting; try again later.", { retryAfterMs: 1000 });
    this.#admitted += 1;
    try {
      return await run();
    } finally {
      this.#admitted -= 1;
    }
  }

  async #runAlone(operation: RunOperation, item: CommandItem): Promise<Message | Rejection> {
    try {
      return await this.#database.transaction((tx) => runAlone(tx, operation, item));
    } catch (error) {
      if (error instanceof TakenBack) {
        item.parts = { write: () => error.rejection };
        return this.#answer(item);
      }
      // Another process was first; what it answered is there now.
      const answer = isUniqueViolation(error) && item.command !== undefined ? await this.#knownAnswer(item.command) : undefined;
      if (answer === undefined) throw callErrorOf(error);
      return answer;
    }
  }

  /** A no from a peer is this command's no, and is decided like any other: in the batch, where it is stored. */
  async #prepare(item: CommandItem, peer: Peers): Promise<CommandItem> {
    const { caller, id, commandId, now, context, command } = item;
    item.isBegun = true;
    try {
      item.prepared = await item.parts.prepare?.(item.input, {
        caller,
        id,
        commandId,
        now,
        sql: this.#database,
        peer,
        signal: context.signal,
      });
    } catch (error) {
      const declared = command === undefined ? undefined : methodOptions(command.method).rejections;
      if (!(error instanceof CallError) || declared?.has(error.code) !== true) throw callErrorOf(error);
      item.parts = { write: () => reject(error.code, error.message) };
    }
    return item;
  }

  async #knownAnswer(command: Command): Promise<Message | Rejection | undefined> {
    const stored = await findAnswer(this.#database, command).catch((error: unknown) => {
      throw callErrorOf(error);
    });
    return stored === undefined ? undefined : repeatedAnswer(command, stored);
  }

  /** Runs a command unless it was decided already; a repeat that comes while it runs here waits for it. */
  async #once(command: Command | undefined, run: () => Promise<Message | Rejection>): Promise<Message | Rejection> {
    if (command === undefined) return run();
    for (let first = this.#running.get(command.key); first !== undefined; first = this.#running.get(command.key))
      await first.catch(() => undefined);
    const running = this.#knownAnswer(command).then((known) => known ?? run());
    this.#running.set(command.key, running);
    try {
      return await running;
    } finally {
      this.#running.delete(command.key);
    }
  }

  async #answer(item: CommandItem): Promise<Message | Rejection> {
    const outcome = await new Promise<ApplyOutcome>((resolve, reject) => {
      this.#queue.push({ item, resolve, reject });
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
    const taken = this.#queue.take(this.#settings.batchMax);
    // Dropped before its batch, never after: what is in a batch, or has asked its peers, is carried out and answered.
    const batch = taken.filter((waiting) => !this.#dropLate(waiting));
    if (taken.length === 0) return;
    this.#inFlight += 1;
    if (this.#queue.length > 0) this.#schedule();
    try {
      const outcomes =
        batch.length === 0
          ? []
          : await this.apply(
              batch.map(({ item }) => item),
              noGuards,
            );
      for (const [index, { resolve }] of batch.entries()) resolve(outcomes[index] as ApplyOutcome);
    } catch (error) {
      const callError = callErrorOf(error);
      for (const { reject } of batch) reject(callError);
    } finally {
      this.#inFlight -= 1;
      this.#queue.release(taken);
      if (this.#queue.length > 0) this.#schedule();
    }
  }

  #dropLate({ item: { context, isBegun }, reject }: Waiting): boolean {
    if (isBegun) return false;
    if (context.deadlineMs <= this.#clock())
      reject(new CallError("DEADLINE_EXCEEDED", "deadline_exceeded", "Given up before it was begun."));
    else if (context.cancelled) reject(new CallError("CANCELLED", "cancelled", "Given up before it was begun."));
    else return false;
    return true;
  }
}

const keyedCommand = (method: DescMethodUnary, request: Message, { caller, idempotencyKey }: Context): Command | undefined =>
  idempotencyKey !== undefined && methodOptions(method).idempotency === "KEYED"
    ? commandOf(method, caller, idempotencyKey, request)
    : undefined;

/** The answer of a command that ran by itself, stored in its own transaction like any other. */
async function runAlone(tx: Transaction, { run }: RunOperation, item: CommandItem): Promise<Message | Rejection> {
  const { command, caller, id, commandId, now } = item;
  const [stored] =
    command === undefined ? [] : rowsOf(answers, await tx.query(selectStatement(answers, [answers.row(command.key)], false)));
  if (command !== undefined && stored !== undefined) return repeatedAnswer(command, stored);
  const answer: Message | Rejection = await withoutCalls(() => run(tx, item.input, { caller, id, commandId, now }));
  if (isRejection(answer)) throw new TakenBack(answer);
  if (command !== undefined) await tx.query(insertStatement(answers, [storedAnswer(command, answer, now)], false));
  return answer;
}

class TakenBack extends Error {
  override readonly name = "TakenBack";
  readonly rejection: Rejection;

  constructor(rejection: Rejection) {
    super(`rejected: ${rejection.code}`);
    this.rejection = rejection;
  }
}
