import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { GuardStatement } from "#platform/events/apply.ts";
import type { Statement } from "#platform/postgres/database.ts";
import type { NewTask } from "#platform/tasks/task-types.ts";

/*
 * What writes tasks (migrations/0001-tasks.sql) within a transaction of the service.
 *
 * Tasks of one concurrency key form a lane: one of them is WAITING or RUNNING, the others are BLOCKED behind it. Who puts tasks into
 * a lane, or takes one out, locks the lane until the commit, and then brings its first task forward; who starts one doesn't need to.
 */

/** Puts tasks into their queues; one whose id is there already is left out. `offered`: those that are due at once go to a broker. */
export function enqueueTasks(tasks: readonly NewTask[], offered: boolean): Statement[] {
  // Two transactions meet at a key in the same order.
  const sorted = tasks.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const column = <K extends keyof NewTask>(name: K): NewTask[K][] => sorted.map((task) => task[name]);
  const insert: Statement = {
    name: "tasks enqueue",
    text: `INSERT INTO tasks (id, type, queue, priority, key, concurrency_key, state, offered, run_at, payload, traceparent, actor, causation_id)
           SELECT id, type, queue, priority, key, lane, CASE WHEN lane IS NULL THEN 'WAITING' ELSE 'BLOCKED' END,
             $12 AND lane IS NULL AND run_at IS NULL, coalesce(to_timestamp(run_at / 1000), now()), payload, traceparent, actor, causation_id
           FROM unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::text[], $7::float8[], $8::bytea[], $9::text[], $10::text[], $11::text[])
             AS task (id, type, queue, priority, key, lane, run_at, payload, traceparent, actor, causation_id)
           ON CONFLICT (id) DO NOTHING`,
    values: [
      column("id"),
      column("type"),
      column("queue"),
      column("priority"),
      column("key").map((key) => key ?? null),
      column("concurrencyKey").map((key) => key ?? null),
      column("runAt").map((at) => (at === undefined ? null : timestampMs(at))),
      column("payload").map((payload) => Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)),
      column("traceparent"),
      column("actor"),
      column("causationId"),
      offered,
    ],
  };
  const inLanes = sorted.filter(({ concurrencyKey }) => concurrencyKey !== undefined).map(({ id }) => id);
  return inLanes.length === 0 ? [insert] : [insert, lockLanes(inLanes), ...settleLanes(inLanes)];
}

/** Ends tasks that haven't ended; what one that runs would still write is refused. Those that run have been locked before (`lockRunning`). */
export const cancelTasks = (ids: readonly string[]): Statement[] => [lockLanes(ids), cancelRows(ids), ...settleLanes(ids)];

/** That alone, without what it asks of their lanes. */
export const cancelRows = (ids: readonly string[]): Statement => ({
  name: "tasks cancel",
  // Kept as long as any: what its key named is decided.
  text: `UPDATE tasks SET state = 'CANCELED', worker = NULL, ended_at = clock_timestamp(), forget_at = clock_timestamp() + interval '7 days'
         WHERE id = ANY($1::uuid[]) AND state IN ('WAITING', 'BLOCKED', 'RUNNING')`,
  values: [ids],
});

/** How a try ended. */
export type TaskEnding = {
  readonly id: string;
  /** WAITING: it is tried again. */
  readonly state: "DONE" | "FAILED" | "WAITING";
  /** Whether it stands in a lane. */
  readonly hasLane: boolean;
  readonly pauseMs: number;
  /** It isn't counted as a try: something else was away. */
  readonly isPostponed: boolean;
  readonly keepMs: number;
  readonly result: string | undefined;
  readonly cause: string | undefined;
};

/** Ends tries of tasks that this worker holds, which `heldTasks` has made sure of. */
export function endTasks(endings: readonly TaskEnding[]): Statement[] {
  if (endings.length === 0) return [];
  const sorted = endings.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const lanes = sorted.filter(({ hasLane }) => hasLane).map(({ id }) => id);
  const end: Statement = {
    name: "tasks end",
    text: `UPDATE tasks SET worker = NULL, result = e.result, cause = coalesce(e.cause, tasks.cause),
             state = CASE WHEN e.state = 'WAITING' AND concurrency_key IS NOT NULL THEN 'BLOCKED' ELSE e.state END,
             offered = offered AND e.state <> 'WAITING',
             run_at = CASE WHEN e.state = 'WAITING' THEN clock_timestamp() + e.pause * interval '1 ms' ELSE run_at END,
             attempts = attempts - e.postponed::integer,
             postponed = CASE WHEN e.postponed THEN tasks.postponed + 1 ELSE 0 END,
             progress = CASE WHEN e.state = 'DONE' AND progress IS NOT NULL THEN 1 END,
             ended_at = CASE WHEN e.state <> 'WAITING' THEN clock_timestamp() END,
             forget_at = CASE WHEN e.state = 'DONE' THEN clock_timestamp() + e.keep * interval '1 ms' END
           FROM unnest($1::uuid[], $2::text[], $3::float8[], $4::boolean[], $5::float8[], $6::text[], $7::text[])
             AS e (id, state, pause, postponed, keep, result, cause)
           WHERE tasks.id = e.id`,
    values: [
      sorted.map(({ id }) => id),
      sorted.map(({ state }) => state),
      sorted.map(({ pauseMs }) => pauseMs),
      sorted.map(({ isPostponed }) => isPostponed),
      sorted.map(({ keepMs }) => keepMs),
      sorted.map(({ result }) => result ?? null),
      sorted.map(({ cause }) => cause ?? null),
    ],
  };
  return lanes.length === 0 ? [end] : [lockLanes(lanes), end, ...settleLanes(lanes)];
}

/** Somebody else has, or has ended, some of the tasks whose end was to be written. */
export class TasksNotHeld extends Error {
  override readonly name = "TasksNotHeld";
  /** The claims that still hold. */
  readonly held: ReadonlySet<string>;

  constructor(held: ReadonlySet<string>) {
    super("some tasks were taken from their worker, or cancelled");
    this.held = held;
  }
}

/** The first statement of what ends tasks: that these claims hold, and will until the commit. Throws TasksNotHeld. */
export const heldTasks = (tries: readonly { readonly id: string; readonly claim: string }[]): GuardStatement => ({
  name: "tasks held",
  text: `SELECT tasks.claim FROM tasks JOIN unnest($1::uuid[], $2::uuid[]) held (id, claim) ON tasks.id = held.id AND tasks.claim = held.claim
         WHERE state = 'RUNNING' ORDER BY tasks.id FOR NO KEY UPDATE OF tasks`,
  values: [tries.map(({ id }) => id), tries.map(({ claim }) => claim)],
  check({ rows }) {
    if (rows.length < tries.length) throw new TasksNotHeld(new Set(rows.map(({ claim }) => claim as string)));
  },
});

/** How far tries have come, where they still hold. */
export const writeProgress = (news: readonly { readonly id: string; readonly claim: string; readonly progress: number }[]): Statement => ({
  name: "tasks progress",
  text: `UPDATE tasks SET progress = said.progress FROM unnest($1::uuid[], $2::real[], $3::uuid[]) said (id, progress, claim)
         WHERE tasks.id = said.id AND tasks.claim = said.claim AND state = 'RUNNING'`,
  values: [news.map(({ id }) => id), news.map(({ progress }) => progress), news.map(({ claim }) => claim)],
});

const LANES_OF = "SELECT DISTINCT queue, concurrency_key FROM tasks WHERE id = ANY($1::uuid[]) AND concurrency_key IS NOT NULL";

/** Of these tasks, those that run are locked: before their lanes, as their workers do it when they end them. */
export const lockRunning = (ids: readonly string[]): Statement => ({
  name: "tasks lock running",
  text: "SELECT FROM tasks WHERE id = ANY($1::uuid[]) AND state = 'RUNNING' ORDER BY id FOR NO KEY UPDATE",
  values: [ids],
});

/** Locks the lanes of these tasks until the transaction ends; what comes after it sees what was done in them before. */
export const lockLanes = (ids: readonly string[]): Statement => ({
  name: "lanes lock",
  text: `SELECT pg_advisory_xact_lock(hash) FROM (
           SELECT DISTINCT hashtextextended(queue || ' ' || concurrency_key, 0) AS hash FROM (${LANES_OF}) lane ORDER BY hash) sorted`,
  values: [ids],
});

/** Brings the first task of each of these locked lanes forward: the one that is due first, unless one runs, or is due already. */
export const settleLanes = (ids: readonly string[]): Statement[] => [
  {
    name: "lanes yield",
    text: `UPDATE tasks SET state = 'BLOCKED', offered = false FROM (${LANES_OF}) lane
           WHERE tasks.queue = lane.queue AND tasks.concurrency_key = lane.concurrency_key AND state = 'WAITING' AND run_at > clock_timestamp()
             AND EXISTS (SELECT FROM tasks other WHERE other.queue = lane.queue AND other.concurrency_key = lane.concurrency_key
                           AND other.state = 'BLOCKED' AND other.run_at < tasks.run_at)`,
    values: [ids],
  },
  {
    name: "lanes settle",
    text: `UPDATE tasks SET state = 'WAITING' FROM (
             SELECT first.id FROM (${LANES_OF}) lane, LATERAL (
               SELECT id FROM tasks WHERE queue = lane.queue AND concurrency_key = lane.concurrency_key AND state = 'BLOCKED'
               ORDER BY run_at, id LIMIT 1) first
             WHERE NOT EXISTS (SELECT FROM tasks WHERE queue = lane.queue AND concurrency_key = lane.concurrency_key AND state IN ('WAITING', 'RUNNING'))
           ) next WHERE tasks.id = next.id`,
    values: [ids],
  },
];
