import { type DescMessage, fromBinary, type JsonValue } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { maskedJson } from "#platform/contract/mask-personal.ts";
import type { Database, Rows, Sql, Statement } from "#platform/postgres/database.ts";
import { cancelRows, lockLanes, lockRunning, settleLanes } from "#platform/tasks/task-statements.ts";

/** Its row's, but that what waits for its time is DELAYED, as in `polis_tasks{state}`. */
export const TASK_STATES = ["WAITING", "DELAYED", "BLOCKED", "RUNNING", "DONE", "FAILED", "CANCELED"] as const;
export type TaskState = (typeof TASK_STATES)[number];

/** A task as it stands, without what may be personal. */
export type StoredTask = {
  readonly id: string;
  readonly type: string;
  readonly queue: string;
  readonly priority: number;
  readonly key: string | undefined;
  readonly concurrencyKey: string | undefined;
  readonly state: TaskState;
  /** Tries so far, without those that ended because something else was away. */
  readonly attempts: number;
  /** 0 to 1, as the task says. */
  readonly progress: number | undefined;
  readonly result: string | undefined;
  /** What its last try failed by. */
  readonly cause: string | undefined;
  readonly runAt: Date;
  readonly enqueuedAt: Date;
  /** Of the last try. */
  readonly startedAt: Date | undefined;
  readonly endedAt: Date | undefined;
};

export type ShownTask = StoredTask & {
  readonly actor: string;
  readonly traceparent: string;
  readonly causationId: string;
  readonly worker: string | undefined;
  /** Personal fields masked; undefined where the payload can't be decoded, or its type isn't known. */
  readonly task: JsonValue | undefined;
  readonly payloadBytes: number;
};

export type TaskFilter = {
  readonly queue?: string | undefined;
  readonly type?: string | undefined;
  readonly state?: TaskState | undefined;
};

type Row = {
  readonly [K in keyof StoredTask]: (StoredTask[K] extends Date | undefined ? Timestamp : StoredTask[K]) | null;
} & {
  readonly actor: string;
  readonly traceparent: string;
  readonly causationId: string;
  readonly worker: string | null;
  readonly payload: Buffer;
};

const COLUMNS = `id, type, queue, priority, key, concurrency_key AS "concurrencyKey",
  CASE WHEN state = 'WAITING' AND run_at > now() THEN 'DELAYED' ELSE state END AS state, attempts, progress, result, cause,
  run_at AS "runAt", enqueued_at AS "enqueuedAt", started_at AS "startedAt", ended_at AS "endedAt",
  actor, traceparent, causation_id AS "causationId", worker, payload`;

/** The task of this id (`taskId` for one that has a key); undefined where there is none, or it needn't be kept any more. */
export async function findTask(sql: Sql, id: string): Promise<StoredTask | undefined> {
  const [row] = await read(sql, "id = $1::uuid", [id]);
  return row && storedOf(row);
}

/** Lists tasks of a service, the newest first, at most `limit` of them. */
export async function listTasks(sql: Sql, filter: TaskFilter, limit: number): Promise<StoredTask[]> {
  return (await read(sql, `${FILTER} ORDER BY enqueued_at DESC, id DESC LIMIT $5`, [...filterValues(filter), limit])).map(storedOf);
}

/** Shows one task. `schemas` are the tasks that can be decoded. */
export async function showTask(sql: Sql, id: string, schemas: readonly DescMessage[]): Promise<ShownTask | undefined> {
  const [row] = await read(sql, "id = $1::uuid", [id]);
  if (row === undefined) return undefined;
  const { actor, traceparent, causationId, worker, payload } = row;
  const task = taskJson(
    schemas.find(({ typeName }) => typeName === row.type),
    payload,
  );
  return { ...storedOf(row), actor, traceparent, causationId, worker: worker ?? undefined, task, payloadBytes: payload.length };
}

/** A schedule as it stands. */
export type StoredSchedule = {
  readonly name: string;
  readonly cron: string;
  readonly timeZone: string;
  readonly nextAt: Date;
  /** The first of the times that were acted on last. */
  readonly firedAt: Date | undefined;
};

export async function listSchedules(sql: Sql): Promise<StoredSchedule[]> {
  const { rows } = await sql.query<{ name: string; cron: string; timeZone: string; nextAt: Timestamp; firedAt: Timestamp | null }>({
    text: `SELECT name, cron, time_zone AS "timeZone", next_at AS "nextAt", fired_at AS "firedAt" FROM task_schedules ORDER BY name`,
  });
  return rows.map(({ nextAt, firedAt, ...row }) => ({ ...row, nextAt: timestampDate(nextAt), firedAt: dateOf(firedAt) }));
}

/** Has tasks that failed done after all, from their first try on, or one that was cancelled; returns how many. */
export const retryTasks = (database: Database, which: { readonly id: string } | TaskFilter): Promise<number> =>
  change(database, which, "id" in which ? ["FAILED", "CANCELED"] : ["FAILED"], (ids) => ({
    text: `UPDATE tasks SET state = CASE WHEN concurrency_key IS NULL THEN 'WAITING' ELSE 'BLOCKED' END, attempts = 0, postponed = 0,
             run_at = clock_timestamp(), offered = false, progress = NULL, ended_at = NULL, forget_at = NULL
           WHERE id = ANY($1::uuid[]) AND state IN ('FAILED', 'CANCELED')`,
    values: [ids],
  }));

/** Ends tasks that have not ended; returns how many. What one that runs would still write is refused. */
export const endTasksEarly = (database: Database, which: { readonly id: string } | TaskFilter): Promise<number> =>
  change(database, which, ["WAITING", "BLOCKED", "RUNNING"], cancelRows);

/** The queues and types that tasks of this database have, be they ever so old. */
export async function filedUnder(sql: Sql): Promise<{ readonly queues: readonly string[]; readonly types: readonly string[] }> {
  const { rows } = await sql.query<{ queue: string; type: string }>({
    text: "SELECT DISTINCT queue, type FROM tasks ORDER BY queue, type",
  });
  return { queues: [...new Set(rows.map(({ queue }) => queue))], types: [...new Set(rows.map(({ type }) => type))] };
}

/** One statement a batch, so that a queue of a million is no transaction of a million. */
const CHANGED_AT_ONCE = 1_000;

async function change(
  database: Database,
  which: { readonly id: string } | TaskFilter,
  states: readonly Exclude<TaskState, "DELAYED">[],
  update: (ids: readonly string[]) => Statement,
): Promise<number> {
  const [condition, values] = "id" in which ? ["id = $1::uuid", [which.id]] : [FILTER, filterValues(which)];
  let changed = 0;
  // By their ids, so that one that has failed again meanwhile isn't changed again.
  for (let last = NO_ID; ; ) {
    const { found, rowCount } = await database.transaction(async (tx) => {
      const { rows } = await tx.query<{ id: string }>({
        text: `SELECT id FROM tasks WHERE (${condition}) AND state = ANY($${values.length + 1}::text[]) AND id > $${values.length + 2}::uuid
               ORDER BY id LIMIT ${CHANGED_AT_ONCE}`,
        values: [...values, states, last],
      });
      const found = rows.map(({ id }) => id);
      if (found.length === 0) return { found, rowCount: 0 };
      // The update counts, and not what was found: what waits isn't locked, since its lane is locked before it, and some of it may have
      // ended meanwhile. One that begins just then, and ends, may have its worker and this wait for each other: then one tries again.
      const statements = [lockRunning(found), lockLanes(found), update(found), ...settleLanes(found)];
      const answers = await Promise.all(statements.map((statement) => tx.query(statement)));
      const [, , updated] = answers as [unknown, unknown, Rows<never>];
      return { found, rowCount: updated.rowCount };
    });
    changed += rowCount;
    if (found.length < CHANGED_AT_ONCE) return changed;
    last = found.at(-1) as string;
  }
}

const NO_ID = "00000000-0000-0000-0000-000000000000";
const FILTER = `($1::text IS NULL OR queue = $1) AND ($2::text IS NULL OR type = $2) AND ($3::text IS NULL OR state = $3)
  AND ($4::boolean IS NULL OR (run_at > now()) = $4)`;
const filterValues = ({ queue, type, state }: TaskFilter): (string | boolean | null)[] => [
  queue ?? null,
  type ?? null,
  state === "DELAYED" ? "WAITING" : (state ?? null),
  state === "DELAYED" || state === "WAITING" ? state === "DELAYED" : null,
];

const read = async (sql: Sql, condition: string, values: readonly unknown[]): Promise<Row[]> =>
  (await sql.query({ text: `SELECT ${COLUMNS} FROM tasks WHERE ${condition}`, values })).rows as unknown as Row[];

const dateOf = (time: Timestamp | null): Date | undefined => (time === null ? undefined : timestampDate(time));

function storedOf(row: Row): StoredTask {
  const { id, type, queue, priority, key, concurrencyKey, state, attempts, progress, result, cause } = row;
  return {
    id: id as string,
    type: type as string,
    queue: queue as string,
    priority: priority as number,
    key: key ?? undefined,
    concurrencyKey: concurrencyKey ?? undefined,
    state: state as TaskState,
    attempts: attempts as number,
    progress: progress ?? undefined,
    result: result ?? undefined,
    cause: cause ?? undefined,
    runAt: dateOf(row.runAt) as Date,
    enqueuedAt: dateOf(row.enqueuedAt) as Date,
    startedAt: dateOf(row.startedAt),
    endedAt: dateOf(row.endedAt),
  };
}

function taskJson(schema: DescMessage | undefined, payload: Uint8Array): JsonValue | undefined {
  if (schema === undefined) return undefined;
  try {
    return maskedJson(schema, fromBinary(schema, payload));
  } catch {
    // Undecodable is one of the reasons for which a task fails.
    return undefined;
  }
}
