import type { Database, Rows, Sql, Statement, Transaction } from "#platform/postgres/database.ts";
import { lockLanes, settleLanes } from "#platform/tasks/task-statements.ts";

/** A task that a worker has taken, as it stood then. */
export type ClaimedTask = {
  readonly id: string;
  /** Of this try alone: the same worker may have it again after it was cancelled and retried. */
  readonly claim: string;
  readonly type: string;
  readonly queue: string;
  readonly priority: number;
  readonly hasLane: boolean;
  /** This try included. */
  readonly attempts: number;
  readonly postponed: number;
  readonly payload: Buffer;
  readonly traceparent: string;
  readonly actor: string;
  /** How long it has been due, in milliseconds. */
  readonly waitedMs: number;
  /** When it came due, in milliseconds since the epoch. */
  readonly dueMs: number;
};

/** A queue as its workers see it. */
export type Queue = {
  readonly name: string;
  /** The types of task that this code knows. */
  readonly types: readonly string[];
  /** From the highest to the lowest. */
  readonly priorities: readonly number[];
  readonly concurrency: number | undefined;
  /** How many of their ids a broker carries in one message. */
  readonly idsAMessage: number;
};

const CLAIMED = `tasks.id, claim, type, queue, tasks.priority, concurrency_key IS NOT NULL AS "hasLane", attempts, postponed, payload, traceparent, actor,
  extract(epoch FROM clock_timestamp() - run_at)::float8 * 1000 AS "waitedMs", extract(epoch FROM run_at)::float8 * 1000 AS "dueMs"`;

/**
 * The worker's row stays until the claim is committed. The commit doesn't wait for the disk: a claim that is lost in a crash is a task
 * that waits again, and whose end this worker can't write.
 */
const ALIVE = "SELECT set_config('synchronous_commit', 'off', true) FROM task_workers WHERE id = $1 FOR KEY SHARE";

const TAKE = "SET state = 'RUNNING', worker = $1, claim = gen_random_uuid(), attempts = attempts + 1, started_at = clock_timestamp()";

/** Which of those that are due a claim may take. */
export type Reach = {
  /** Those that no broker was given. */
  readonly unoffered: boolean;
  /** Of each priority, those that a broker was given and that were due before this, in milliseconds since the epoch. */
  readonly offeredBefore: readonly number[];
};

/** Takes at most `limit` tasks of a queue that are due, by priority and then by time; fewer where the queue's concurrency says so. */
export async function claimDue(
  database: Database,
  worker: string,
  { name, types, priorities, concurrency }: Queue,
  limit: number,
  { unoffered, offeredBefore }: Reach,
): Promise<ClaimedTask[]> {
  const claim: Statement = {
    name: `tasks claim${concurrency === undefined ? "" : " limited"}`,
    text: `WITH alive AS (${ALIVE}), due AS (
             SELECT task.id FROM unnest($4::integer[], $7::float8[]) WITH ORDINALITY level (priority, before, place),
               LATERAL (VALUES (false, CASE WHEN $6 THEN now() END), (true, least(to_timestamp(level.before / 1000), now()))) reach (offered, before),
               LATERAL (
                 SELECT id FROM tasks
                 WHERE state = 'WAITING' AND queue = $2 AND offered = reach.offered AND priority = level.priority AND run_at <= reach.before AND type = ANY($3::text[])
                 ORDER BY run_at, id LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED) task
             ORDER BY level.place, reach.offered LIMIT ${concurrency === undefined ? "$5" : "greatest(least($5, $8 - (SELECT count(*) FROM tasks WHERE state = 'RUNNING' AND queue = $2)), 0)"}
           )
           UPDATE tasks ${TAKE}
           FROM alive WHERE tasks.id = ANY(ARRAY(SELECT id FROM due)) RETURNING ${CLAIMED}`,
    values: [worker, name, types, priorities, limit, unoffered, offeredBefore, ...(concurrency === undefined ? [] : [concurrency])],
  };
  if (concurrency === undefined) return inOrder(await database.query(claim));
  // Counted under a lock, or two would count the same.
  const answers = await database.queryAll([
    { name: "queue lock", text: "SELECT pg_advisory_xact_lock(hashtextextended('queue ' || $1, 0))", values: [name] },
    claim,
  ]);
  return inOrder(answers[1] as Rows<ClaimedTask>);
}

/** Takes those of these tasks that wait and are due. */
export const claimByIds = async (database: Database, worker: string, { types }: Queue, ids: readonly string[]): Promise<ClaimedTask[]> =>
  inOrder(
    await database.query({
      name: "tasks claim ids",
      text: `WITH alive AS (${ALIVE})
             UPDATE tasks ${TAKE}
             FROM alive WHERE tasks.id = ANY($2::uuid[]) AND state = 'WAITING' AND run_at <= now() AND type = ANY($3::text[])
             RETURNING ${CLAIMED}`,
      values: [worker, [...ids].sort(), types],
    }),
  );

const inOrder = ({ rows }: Rows<ClaimedTask>): ClaimedTask[] =>
  rows.sort((a, b) => b.priority - a.priority || a.dueMs - b.dueMs || (a.id < b.id ? -1 : 1));

/** Marks at most `limit` due tasks of a queue as given to a broker, which is then to be given them. */
export async function takeForOffer(database: Database, { name, types }: Queue, limit: number): Promise<{ id: string; priority: number }[]> {
  const { rows } = await database.query<{ id: string; priority: number }>({
    name: "tasks offer",
    text: `UPDATE tasks SET offered = true WHERE id = ANY(ARRAY(
             SELECT id FROM tasks WHERE state = 'WAITING' AND queue = $1 AND NOT offered AND run_at <= now() AND type = ANY($2::text[])
             LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)) RETURNING id, priority`,
    values: [name, types, limit],
  });
  return rows;
}

/** Begins to be a worker. */
export const enterWorker = async (database: Database, worker: string, leaseMs: number): Promise<void> =>
  void (await database.query({
    text: "INSERT INTO task_workers (id, lease_until) VALUES ($1, clock_timestamp() + $2 * interval '1 ms')",
    values: [worker, leaseMs],
  }));

/** Makes a worker's lease last longer, and tells what it has claimed and holds; undefined where its row is gone, and all its tasks with it. */
export async function renewWorker(database: Database, worker: string, leaseMs: number): Promise<ReadonlySet<string> | undefined> {
  const [renewed, held] = await database.queryAll([
    {
      name: "worker renew",
      text: "UPDATE task_workers SET lease_until = clock_timestamp() + $2 * interval '1 ms' WHERE id = $1",
      values: [worker, leaseMs],
    },
    { name: "worker held", text: "SELECT claim FROM tasks WHERE state = 'RUNNING' AND worker = $1", values: [worker] },
  ]);
  return renewed?.rowCount === 1 ? new Set(held?.rows.map(({ claim }) => claim as string)) : undefined;
}

const GIVE_BACK =
  "UPDATE tasks SET state = 'WAITING', worker = NULL, attempts = attempts - 1, offered = false, progress = NULL WHERE state = 'RUNNING' AND worker = $1";

/** Gives back some of what a worker holds, as if it hadn't been begun. */
export const giveBack = async (database: Database, worker: string, claims: readonly string[]): Promise<void> =>
  void (await database.query({ text: `${GIVE_BACK} AND claim = ANY($2::uuid[])`, values: [worker, claims] }));

/** Gives back what a worker still holds, as if it hadn't been begun, and ends it. */
export async function leaveWorker(database: Database, worker: string): Promise<void> {
  await database.queryAll([
    { text: GIVE_BACK, values: [worker] },
    { text: "DELETE FROM task_workers WHERE id = $1", values: [worker] },
  ]);
}

const LOST = "Its worker was lost.";

/**
 * Takes the tasks of workers whose lease has ended away from them: to be tried again, or failed where that was the last try. Returns
 * how many.
 */
export async function takeFromLost(database: Database, attemptsMax: ReadonlyMap<string, number>): Promise<number> {
  return database.transaction(async (tx) => {
    await tx.query({ name: "workers lost", text: "DELETE FROM task_workers WHERE lease_until < clock_timestamp()" });
    // By the names of those who have no row: whoever enters meanwhile isn't among them.
    const { rows: lost } = await tx.query<{ worker: string }>({
      name: "workers gone",
      text: `SELECT DISTINCT worker FROM tasks WHERE state = 'RUNNING' AND NOT EXISTS (SELECT FROM task_workers WHERE id = worker)`,
    });
    if (lost.length === 0) return 0;
    const { rows } = await tx.query<{ id: string; state: string; hasLane: boolean }>({
      text: `UPDATE tasks SET worker = NULL, offered = false, progress = NULL, cause = $4,
               state = CASE WHEN attempts >= known.attempts_max THEN 'FAILED' ELSE 'WAITING' END,
               ended_at = CASE WHEN attempts >= known.attempts_max THEN clock_timestamp() END
             FROM (SELECT id, coalesce(attempts_max, 2147483647) AS attempts_max
                   FROM tasks LEFT JOIN unnest($2::text[], $3::integer[]) known (type, attempts_max) USING (type)
                   WHERE state = 'RUNNING' AND worker = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE OF tasks SKIP LOCKED) known
             WHERE tasks.id = known.id RETURNING tasks.id, state, concurrency_key IS NOT NULL AS "hasLane"`,
      values: [lost.map(({ worker }) => worker), [...attemptsMax.keys()], [...attemptsMax.values()], LOST],
    });
    const ended = rows.filter(({ state, hasLane }) => state === "FAILED" && hasLane).map(({ id }) => id);
    if (ended.length > 0) await tx.commit([lockLanes(ended), ...settleLanes(ended)]);
    return rows.length;
  });
}

type Filed = { readonly queue: string; readonly priority: number };
type Misfiled = { readonly id: string; readonly queue: string; readonly lane: string | null };

const REFILED_AT_ONCE = 500;

/**
 * Files what has been due for so long, and nobody took, as the contract has it now: its queue and priority may be others than when it
 * was enqueued, or than an older process beside this one believes. A lane of which one runs stays until that has ended.
 */
export async function refileTasks(database: Database, types: ReadonlyMap<string, Filed>, dueForMs: number): Promise<void> {
  const filed = [...types.values()];
  const known = [[...types.keys()], filed.map(({ queue }) => queue), filed.map(({ priority }) => priority)];
  for (let moved = REFILED_AT_ONCE; moved === REFILED_AT_ONCE; )
    moved = await database.transaction(async (tx) => {
      const { rows } = await tx.query<Misfiled>({
        text: `SELECT id, tasks.queue, concurrency_key AS lane
               FROM tasks JOIN unnest($1::text[], $2::text[], $3::integer[]) known (type, queue, priority) USING (type)
               WHERE state IN ('WAITING', 'BLOCKED') AND (tasks.queue, tasks.priority) <> (known.queue, known.priority)
                 AND run_at < now() - $4 * interval '1 ms'
                 AND NOT EXISTS (SELECT FROM tasks other WHERE other.queue = tasks.queue AND other.concurrency_key = tasks.concurrency_key
                                   AND other.state = 'RUNNING')
               LIMIT ${REFILED_AT_ONCE}`,
        values: [...known, dueForMs],
      });
      if (rows.length === 0) return 0;
      const ids = rows.map(({ id }) => id);
      await tx.query(lockLanes(ids));
      await tx.query({
        text: `UPDATE tasks SET queue = known.queue, priority = known.priority, offered = false,
                 state = CASE WHEN concurrency_key IS NULL THEN 'WAITING' ELSE 'BLOCKED' END
               FROM unnest($1::text[], $2::text[], $3::integer[]) known (type, queue, priority)
               WHERE tasks.type = known.type AND tasks.id = ANY($4::uuid[]) AND state IN ('WAITING', 'BLOCKED')`,
        values: [...known, ids],
      });
      await settleBoth(tx, ids, rows);
      return rows.length;
    });
}

/** The lanes into which tasks came, and those which they left. */
async function settleBoth(tx: Transaction, ids: readonly string[], misfiled: readonly Misfiled[]): Promise<void> {
  const left = misfiled.filter(({ lane }) => lane !== null);
  if (left.length === 0) return;
  await tx.query(lockLanes(ids));
  const { rows } = await tx.query<{ id: string }>({
    text: `SELECT DISTINCT ON (queue, concurrency_key) id FROM tasks
           WHERE state = 'BLOCKED' AND (queue, concurrency_key) IN (SELECT * FROM unnest($1::text[], $2::text[]))`,
    values: [left.map(({ queue }) => queue), left.map(({ lane }) => lane)],
  });
  for (const statement of settleLanes([...ids, ...rows.map(({ id }) => id)])) await tx.query(statement);
}

/** Deletes at most `limit` tasks that needn't be kept any longer; the number deleted. */
export async function forgetTasks(sql: Sql, limit: number): Promise<number> {
  const { rowCount } = await sql.query({
    text: "DELETE FROM tasks WHERE id = ANY(ARRAY(SELECT id FROM tasks WHERE forget_at < now() LIMIT $1 FOR UPDATE SKIP LOCKED))",
    values: [limit],
  });
  return rowCount;
}

export type QueueDepth = {
  readonly queue: string;
  readonly state: string;
  readonly tasks: number;
  /** Seconds since the oldest of them came due. */
  readonly age: number;
};

/** How many tasks there are of each queue that have not ended, or failed; DELAYED are those that aren't due. */
export const queueDepths = async (database: Database): Promise<QueueDepth[]> =>
  (
    await database.query<QueueDepth>({
      name: "tasks depth",
      text: `SELECT queue, CASE WHEN state = 'WAITING' AND run_at > now() THEN 'DELAYED' ELSE state END AS state,
               count(*)::float8 AS tasks, greatest(extract(epoch FROM now() - min(run_at)), 0)::float8 AS age
             FROM (SELECT queue, state, run_at FROM tasks WHERE state = 'WAITING'
                   UNION ALL SELECT queue, state, run_at FROM tasks WHERE state = 'BLOCKED'
                   UNION ALL SELECT queue, state, run_at FROM tasks WHERE state = 'RUNNING'
                   UNION ALL SELECT queue, state, run_at FROM tasks WHERE state = 'FAILED') present
             GROUP BY 1, 2`,
    })
  ).rows;
