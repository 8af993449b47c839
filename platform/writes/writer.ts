import type { DescMethodUnary, Message } from "@bufbuild/protobuf";
import { type Clock, systemClock } from "#platform/clock.ts";
import { methodOptions } from "#platform/contract/method-options.ts";
import type { ApplyItems, ApplyOutcome } from "#platform/events/apply.ts";
import type { Database, Transaction } from "#platform/postgres/database.ts";
import { isUniqueViolation } from "#platform/postgres/errors.ts";
import { isRejection, type Rejection, reject } from "#platform/rejection.ts";
import type { Equipment } from "#platform/resource.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Peers } from "#platform/rpc/client.ts";
import type { Context } from "#platform/rpc/context.ts";
import { withoutCalls } from "#platform/rpc/no-calls.ts";
import { Batches, type BatchesOptions, type BatchSettings } from "#platform/writes/batches.ts";
import { callErrorOf } from "#platform/writes/call-error-of.ts";
import { CommandItem } from "#platform/writes/command-item.ts";
import type { Operation, RunOperation } from "#platform/writes/definitions.ts";
import { answers, type Command, commandOf, findAnswer, repeatedAnswer, storedAnswer } from "#platform/writes/idempotency.ts";
import { namedRows } from "#platform/writes/named-rows.ts";
import { insertStatement, rowsOf, selectStatement } from "#platform/writes/table-statements.ts";

export type WriterSettings = BatchSettings & {
  /** Commands that wait or are carried out; past it a caller is told to try later. */
  readonly waitingMax: number;
};

export type WriterOptions = BatchesOptions & {
  readonly equipment: Equipment;
  readonly clock?: Clock;
  readonly settings?: Partial<WriterSettings>;
};

const writerDefaults: WriterSettings = { waitingMax: 10_000, batchMax: 1024, inFlightMax: 3, heldMaxMs: 10_000 };

/** Carries out what changes the state of one service: many commands in one transaction, and no command knows. */
export class Writer {
  readonly #database: Database;
  readonly #equipment: Equipment;
  readonly #clock: Clock;
  readonly #settings: WriterSettings;
  readonly #batches: Batches;
  /** Commands that run here now, before their batch: a repeat waits for the first. */
  readonly #running = new Map<string, Promise<Message | Rejection>>();
  #admitted = 0;

  constructor({ clock, settings, equipment, ...options }: WriterOptions) {
    this.#database = options.database;
    this.#equipment = equipment;
    this.#clock = clock ?? systemClock;
    this.#settings = { ...writerDefaults, ...settings };
    this.#batches = new Batches(options, this.#settings);
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

  /** Carries out what a consumer has ready; see ApplyItems. */
  readonly apply: ApplyItems = (items, guards) =>
    this.#batches.carryOut(
      items.map((item) => ({ item, command: undefined, named: namedRows(item) })),
      guards,
    );

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
    const { caller, id, commandId, now, origin, context, command } = item;
    item.isBegun = true;
    try {
      item.prepared = await item.parts.prepare?.(item.input, {
        caller,
        id,
        commandId,
        now,
        origin,
        sql: this.#database,
        ...this.#equipment,
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
    let outcome: ApplyOutcome | undefined;
    try {
      [outcome] = await this.#batches.carryOut([item], undefined, () => item.givenUp(this.#clock()));
    } catch (error) {
      throw callErrorOf(error);
    }
    if (outcome?.kind !== "applied") throw outcome?.error;
    return outcome.answer as Message | Rejection;
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
    command === undefined ? [] : rowsOf(answers, await tx.query(selectStatement(answers, [answers.row(command.key)], "none")));
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
