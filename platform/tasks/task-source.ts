import type { Database } from "#platform/postgres/database.ts";
import type { Answer, TaskBroker } from "#platform/tasks/broker.ts";
import { type ClaimedTask, claimByIds, claimDue, type Queue, type Reach, takeForOffer } from "#platform/tasks/claims.ts";
import type { TaskTimings } from "#platform/tasks/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";

/** Where a worker gets the tasks of one queue from. */
export type TaskSource = {
  /** Takes at most `room` tasks that are due. */
  take(worker: string, room: number): Promise<Taken>;
  stop(): Promise<void>;
};

export type Taken = {
  readonly tasks: readonly ClaimedTask[];
  /** There may be more at once. */
  readonly isMore: boolean;
};

/** Past what clocks may differ by: bounded by the database's own clock. */
const FAR_MS = Date.parse("9999-01-01");

const everythingOf = ({ priorities }: Queue): Reach => ({ unoffered: true, offeredBefore: priorities.map(() => FAR_MS) });

/** The table itself. */
export function tableSource(database: Database, queue: Queue): TaskSource {
  const everything = everythingOf(queue);
  return {
    async take(worker, room) {
      const tasks = await claimDue(database, worker, queue, room, everything);
      return { tasks, isMore: tasks.length === room };
    },
    stop: async () => {},
  };
}

const OFFERS_A_TIME = 1_000;

/** At most `room` ids, of the first line first and there of what was brought first, and the messages that are empty then. */
function takeIds(lines: Iterable<Brought[]>, room: number): { readonly ids: ReadonlySet<string>; readonly emptied: readonly Brought[] } {
  const ids: string[] = [];
  const emptied: Brought[] = [];
  for (const line of lines)
    while (ids.length < room && line.length > 0) {
      const message = line[0] as Brought;
      const left = room - ids.length;
      ids.push(...message.ids.slice(0, left));
      message.ids = message.ids.slice(left);
      if (message.ids.length === 0) emptied.push(line.shift() as Brought);
    }
  return { ids: new Set(ids), emptied };
}

/** A message, those of its ids that haven't been taken yet, and when it came, of performance.now. */
type Brought = { ids: readonly string[]; readonly atMs: number; readonly answer: (answer: Answer) => void };

/** So long a message waits here for room. RabbitMQ gives a consumer up that leaves one unanswered for half an hour. */
const HELD_MS_MAX = 10 * 60_000;

/** So many times what may be under way waits here to be taken, where messages are full. */
const FULL_MESSAGES = 4;

/**
 * A broker, and the table for what it should have brought and didn't. Tasks that come due later (a pause, a delay, one that was
 * blocked) are offered when they do.
 */
export function brokerSource(options: {
  readonly database: Database;
  readonly queue: Queue;
  readonly broker: TaskBroker;
  readonly timings: TaskTimings;
  readonly logger: Log;
  /** How many may be under way here. */
  readonly atOnce: number;
  /** There is something to take. */
  readonly wake: () => void;
}): TaskSource {
  const { database, queue, broker, timings, logger, atOnce, wake } = options;
  /** What waits here, by priority: the highest first. */
  const lines = new Map(queue.priorities.map((priority): [number, Brought[]] => [priority, []]));
  /** By priority, when the last task came due that was brought. */
  const frontiers = new Map<number, number>();
  /** By priority, since when (of performance.now) the broker has had tasks and brought none here, and whether that was told. */
  const idle = new Map<number, { readonly sinceMs: number; isTold: boolean }>();
  let lookedAtMs = 0;
  let isStopped = false;
  const messages = queue.idsAMessage === 1 ? atOnce : Math.ceil((atOnce * FULL_MESSAGES) / queue.idsAMessage);
  const delivery = broker.deliver(queue, messages, async (ids, priority) => {
    if (isStopped) return "again";
    idle.delete(priority);
    const { promise, resolve } = Promise.withResolvers<Answer>();
    lines.get(priority)?.push({ ids, atMs: performance.now(), answer: resolve });
    wake();
    return promise;
  });
  const everything = everythingOf(queue);
  /** The table has what they brought. */
  const answerStale = (): void => {
    const beforeMs = performance.now() - HELD_MS_MAX;
    for (const line of lines.values()) while ((line[0]?.atMs ?? Number.POSITIVE_INFINITY) < beforeMs) line.shift()?.answer("taken");
  };
  const hasBrought = (): boolean => [...lines.values()].some((line) => line.length > 0);

  /** Whether the broker has nothing, or has brought nothing of it for a while, though it was waited for. */
  const bringsNothing = (priority: number, waiting: number): boolean => {
    // While something of it waits here for room, it isn't to bring more.
    const isHere = (lines.get(priority)?.length ?? 0) > 0;
    if (waiting === 0 || isHere) idle.delete(priority);
    if (waiting === 0) return true;
    const known = idle.get(priority) ?? { sinceMs: performance.now(), isTold: false };
    idle.set(priority, known);
    if (performance.now() - known.sinceMs <= timings.offerGraceMs) return false;
    if (!known.isTold)
      logger.warn({ queue: queue.name, priority, waiting }, "the broker has tasks and brings none; they are taken from PostgreSQL");
    known.isTold = true;
    return true;
  };

  /**
   * What the broker has lost: all that has been due for a while where its queue is empty, or it brings nothing of it; anywhere what it
   * should have brought long ago.
   */
  const reach = async (): Promise<Reach> => {
    const backlog = await delivery.backlog();
    if (backlog === undefined) return everything;
    const overdue = Date.now() - timings.offerGraceMs;
    const offeredBefore = queue.priorities.map((priority, i) => {
      const overtaken = (frontiers.get(priority) ?? 0) - timings.offerLagMs;
      return bringsNothing(priority, backlog[i] as number) ? Math.max(overdue, overtaken) : overtaken;
    });
    // What it takes no more of, it won't bring.
    return { unoffered: broker.room <= 0, offeredBefore };
  };

  const takeBrought = async (worker: string, room: number): Promise<readonly ClaimedTask[]> => {
    const { ids, emptied } = takeIds(lines.values(), room);
    try {
      // Which of a limited queue run is decided by the table: what was brought only says that there is something.
      const claimed =
        queue.concurrency === undefined
          ? await claimByIds(database, worker, queue, [...ids])
          : await claimDue(database, worker, queue, room, everything);
      for (const { priority, dueMs } of claimed) frontiers.set(priority, Math.max(dueMs, frontiers.get(priority) ?? 0));
      return claimed;
    } finally {
      // Whatever came of it: the row waits, or is somebody's.
      for (const { answer } of emptied) answer("taken");
    }
  };

  /** Offers what has come due, and takes what the broker ought to have brought. */
  const look = async (worker: string, room: number): Promise<Taken> => {
    lookedAtMs = performance.now();
    answerStale();
    const offers = Math.min(broker.room, OFFERS_A_TIME);
    if (offers > 0) {
      const due = await takeForOffer(database, queue, offers);
      broker.offer(due.map(({ id, priority }) => ({ id, priority, queue: queue.name })));
      if (due.length === OFFERS_A_TIME) return { tasks: [], isMore: true };
    }
    const tasks = await claimDue(database, worker, queue, room, queue.concurrency === undefined ? await reach() : everything);
    return { tasks, isMore: hasBrought() || tasks.length === room };
  };

  return {
    async take(worker, room) {
      if (!hasBrought() || performance.now() - lookedAtMs >= timings.taskPollMs) return look(worker, room);
      const tasks = await takeBrought(worker, room);
      return { tasks, isMore: hasBrought() };
    },
    async stop() {
      isStopped = true;
      for (const line of lines.values()) for (const { answer } of line.splice(0)) answer("again");
      await delivery.stop();
    },
  };
}
