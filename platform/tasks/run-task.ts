import { type DescMessage, type DescService, fromBinary } from "@bufbuild/protobuf";
import type { Clock } from "#platform/clock.ts";
import { isTransientFailure } from "#platform/events/failure-book.ts";
import type { Database, Sql } from "#platform/postgres/database.ts";
import type { ReadGate } from "#platform/reads/read-gate.ts";
import type { Equipment } from "#platform/resource.ts";
import { peersOf } from "#platform/rpc/client.ts";
import type { Transport } from "#platform/rpc/transport.ts";
import type { ClaimedTask } from "#platform/tasks/claims.ts";
import type { Task, TaskContext } from "#platform/tasks/define-task.ts";
import { TaskItem } from "#platform/tasks/task-item.ts";
import { assertValid, type TaskOptions } from "#platform/tasks/task-types.ts";
import { PrepareCall, PrepareView, TimeLimit } from "#platform/writes/prepare.ts";

/** A kind of task as this process does it. */
export type KnownTask = { readonly task: Task; readonly options: TaskOptions };

/** Who runs tasks, for as long as its lease lasts; one that has lost it begins anew under another id. */
export type Worker = {
  readonly id: string;
  /** Fires when its tasks are others' by now. */
  readonly lost: AbortSignal;
};

/** One try of a task. */
export type Try = KnownTask & {
  readonly claimed: ClaimedTask;
  readonly worker: Worker;
  /** What `prepare` has said of its progress, and nobody has written down. */
  progress: number | undefined;
  /** Has `prepare` given up: the task was cancelled, is another's, or the process stops. */
  giveUp(error: Error): void;
};

/** What `prepare` made of it. */
export type Outcome =
  | { readonly kind: "ready"; readonly item: TaskItem }
  | { readonly kind: "failed"; readonly error: unknown; readonly isTransient: boolean }
  /** It isn't this process's to end. */
  | { readonly kind: "dropped" };

export type TaskSurroundings = {
  readonly service: string;
  readonly database: Database;
  /** Through which every `prepare` asks the database, so that heartbeats find a connection. */
  readonly reads: ReadGate;
  readonly equipment: Equipment;
  readonly clock: Clock;
  readonly transportFor: (service: DescService) => Transport;
};

/** The task was given up by somebody else than its time limit. */
export class GivenUp extends Error {
  override readonly name = "GivenUp";
}

export const beginTry = (known: KnownTask, claimed: ClaimedTask, worker: Worker): Try => ({
  ...known,
  claimed,
  worker,
  progress: undefined,
  giveUp() {},
});

/** Reads the task and runs its `prepare` within the time limit. Never rejects. */
export async function prepareTask(tried: Try, surroundings: TaskSurroundings): Promise<Outcome> {
  const { task, options, claimed, worker } = tried;
  const { service, database, reads, equipment, clock, transportFor } = surroundings;
  let item: TaskItem;
  try {
    item = readTask(tried, service, clock());
  } catch (error) {
    return { kind: "failed", error, isTransient: false };
  }
  const { prepare } = task.parts;
  if (prepare === undefined) return { kind: "ready", item };
  const limit = new TimeLimit(clock(), options.timeLimitMs, `The task took longer than ${options.timeLimitMs} ms.`);
  let isOver = false;
  tried.giveUp = (error) => {
    if (!isOver) limit.giveUp(error);
  };
  const lose = (): void => tried.giveUp(new GivenUp("the worker's lease has ended"));
  worker.lost.addEventListener("abort", lose, { once: true });
  if (worker.lost.aborted) lose();
  try {
    const call = new PrepareCall(item.caller, claimed.traceparent, limit);
    const peer = peersOf(call, { service, transportFor });
    const sql: Sql = { query: (statement) => reads.run(limit, () => database.query(statement)) };
    const view = new TaskView(tried, item, { ...equipment, sql, peer, signal: limit.signal });
    item.prepared = await Promise.race([prepare(item.input, view), limit.passed]);
    return { kind: "ready", item };
  } catch (error) {
    if (limit.signal.reason instanceof GivenUp) return { kind: "dropped" };
    // Its own time limit is its own fault; a neighbour's isn't.
    return { kind: "failed", error, isTransient: isTransientFailure(error) && !limit.cancelled };
  } finally {
    isOver = true;
    limit.end();
    worker.lost.removeEventListener("abort", lose);
  }
}

function readTask({ task, claimed }: Try, service: string, nowMs: number): TaskItem {
  const schema: DescMessage = task.schema;
  const input = fromBinary(schema, claimed.payload);
  assertValid(schema, input);
  return new TaskItem(claimed, task, input, service, nowMs);
}

/** What one `prepare` sees. */
class TaskView extends PrepareView implements TaskContext {
  readonly attempt: number;
  readonly progress: (done: number) => void;

  constructor(tried: Try, ...rest: ConstructorParameters<typeof PrepareView>) {
    super(...rest);
    this.attempt = tried.claimed.attempts;
    this.progress = (done) => {
      tried.progress = Math.min(Math.max(done, 0), 1);
    };
  }
}
