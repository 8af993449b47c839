import type { ApplyItems, ApplyOutcome } from "#platform/events/apply.ts";
import { isTransientFailure } from "#platform/events/failure-book.ts";
import { pause } from "#platform/events/signal.ts";
import { growingPauseMs } from "#platform/events/timings.ts";
import { isGivenUpWaiting } from "#platform/postgres/errors.ts";
import { storableText } from "#platform/postgres/storable-text.ts";
import { isRejection } from "#platform/rejection.ts";
import { causeOf } from "#platform/rpc/cause-of.ts";
import type { Outcome, Try } from "#platform/tasks/run-task.ts";
import { endTasks, heldTasks, type TaskEnding, TasksNotHeld } from "#platform/tasks/task-statements.ts";
import type { Timings } from "#platform/tasks/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** How a try ended; `lost` where it wasn't this process's any more, and nothing of it was written. */
export type Ended = { readonly kind: "ended"; readonly ending: TaskEnding; readonly error: unknown } | { readonly kind: "lost" };

type Waiting = { readonly tried: Try; readonly outcome: Exclude<Outcome, { kind: "dropped" }>; readonly done: (ended: Ended) => void };

const BATCH_MAX = 256;
/** The database works on one while the next is made. */
const IN_FLIGHT_MAX = 2;
const RESULT_LENGTH_MAX = 2_000;

export type EndTries = (tried: Try, outcome: Waiting["outcome"]) => Promise<Ended>;

/** Ends tries of one service's tasks, many in one transaction, each with what its `write` says. */
export function makeEndTries(options: {
  readonly apply: ApplyItems;
  readonly timings: Timings;
  readonly logger: Log;
  /** A database that is away isn't waited for any longer. */
  readonly hurrying: AbortSignal;
}): EndTries {
  const { apply, timings, logger, hurrying } = options;
  const queue: Waiting[] = [];
  let inFlight = 0;
  let isScheduled = false;

  const schedule = (): void => {
    if (isScheduled || inFlight >= IN_FLIGHT_MAX || queue.length === 0) return;
    isScheduled = true;
    setImmediate(() => {
      isScheduled = false;
      void endNext();
    });
  };

  const endNext = async (): Promise<void> => {
    const batch = takeBatch(queue);
    inFlight += 1;
    schedule();
    await endBatch(batch);
    inFlight -= 1;
    schedule();
  };

  /**
   * Writes until it is written, or not this process's any more. What can't be written though the database is there, it tries in halves,
   * and what can't be written alone has failed by that.
   */
  const endBatch = async (batch: readonly Waiting[]): Promise<void> => {
    let left = batch;
    for (let failures = 0; left.length > 0; ) {
      const [first] = left as [Waiting];
      const { worker } = first.tried;
      try {
        for (const [i, ended] of (await write(left)).entries()) left[i]?.done(ended);
        return;
      } catch (error) {
        if (error instanceof TasksNotHeld) {
          for (const { tried, done } of left) if (!error.held.has(tried.claimed.claim)) done({ kind: "lost" });
          left = left.filter(({ tried }) => error.held.has(tried.claimed.claim));
          continue;
        }
        failures += 1;
        logger.warn({ err: error, failures, tasks: left.length }, "the end of tasks can't be written");
        if (left.length > 1 && (isGivenUpWaiting(error) || !isTransientFailure(error))) {
          const middle = Math.ceil(left.length / 2);
          await Promise.all([endBatch(left.slice(0, middle)), endBatch(left.slice(middle))]);
          return;
        }
        if (!isTransientFailure(error)) left = [{ ...first, outcome: { kind: "failed", error, isTransient: false } }];
        await pause(growingPauseMs(failures, timings), AbortSignal.any([worker.lost, hurrying]));
        if (!worker.lost.aborted && !hurrying.aborted) continue;
        for (const { done } of left) done({ kind: "lost" });
        return;
      }
    }
  };

  const write = async (batch: readonly Waiting[]): Promise<Ended[]> => {
    const ready = batch.flatMap(({ outcome }) => (outcome.kind === "ready" ? [outcome.item] : []));
    let ended: Ended[] = [];
    const last = (outcomes: readonly ApplyOutcome[]) => {
      let next = 0;
      ended = batch.map(({ tried, outcome }) =>
        outcome.kind === "ready" ? afterWrite(tried, outcomes[next++] as ApplyOutcome, timings) : failed(tried, outcome, timings),
      );
      return endTasks(ended.flatMap((each) => (each.kind === "ended" ? [each.ending] : [])));
    };
    await apply(ready, { first: [heldTasks(batch.map(({ tried }) => tried.claimed))], last });
    return ended;
  };

  return (tried, outcome) =>
    new Promise((done) => {
      queue.push({ tried, outcome, done });
      schedule();
    });
}

/** Of one worker, each. */
function takeBatch(queue: Waiting[]): Waiting[] {
  const { worker } = (queue[0] as Waiting).tried;
  const other = queue.findIndex(({ tried }) => tried.worker !== worker);
  return queue.splice(0, Math.min(other < 0 ? queue.length : other, BATCH_MAX));
}

function afterWrite(tried: Try, outcome: ApplyOutcome, timings: Timings): Ended {
  if (outcome.kind === "failed") return failed(tried, { error: outcome.error, isTransient: isTransientFailure(outcome.error) }, timings);
  const said: unknown = outcome.answer;
  if (isRejection(said)) {
    const cause = storableText(said.detail === undefined ? said.code : `${said.code}: ${said.detail}`, RESULT_LENGTH_MAX);
    return { kind: "ended", ending: { ...plain(tried), state: "FAILED", cause }, error: said };
  }
  const result = typeof said === "string" ? storableText(said, RESULT_LENGTH_MAX) : undefined;
  return { kind: "ended", ending: { ...plain(tried), state: "DONE", result }, error: undefined };
}

function failed(tried: Try, { error, isTransient }: { error: unknown; isTransient: boolean }, timings: Timings): Ended {
  const { claimed, options } = tried;
  const cause = causeOf(error);
  if (isTransient) {
    const pauseMs = growingPauseMs(claimed.postponed + 1, { ...timings, longestPauseMs: timings.longestPostponementMs });
    return { kind: "ended", ending: { ...plain(tried), state: "WAITING", isPostponed: true, pauseMs, cause }, error };
  }
  if (claimed.attempts >= options.attempts) return { kind: "ended", ending: { ...plain(tried), state: "FAILED", cause }, error };
  const pauseMs = options.pausesMs[Math.min(claimed.attempts, options.pausesMs.length) - 1] as number;
  return { kind: "ended", ending: { ...plain(tried), state: "WAITING", pauseMs, cause }, error };
}

const plain = ({ claimed, options }: Try): Omit<TaskEnding, "state"> => ({
  id: claimed.id,
  hasLane: claimed.hasLane,
  pauseMs: 0,
  isPostponed: false,
  keepMs: options.keepMs,
  result: undefined,
  cause: undefined,
});
