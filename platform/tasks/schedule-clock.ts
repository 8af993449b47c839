import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { callerName, serviceCaller } from "#platform/access/caller.ts";
import type { Clock } from "#platform/clock.ts";
import { pause } from "#platform/events/signal.ts";
import { growingPauseMs } from "#platform/events/timings.ts";
import type { Database } from "#platform/postgres/database.ts";
import { lastTime, type Schedule, timeAfter } from "#platform/tasks/define-schedule.ts";
import { enqueueTasks } from "#platform/tasks/task-statements.ts";
import { type NewTask, newTask, type TaskOptions } from "#platform/tasks/task-types.ts";
import type { Timings } from "#platform/tasks/timings.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

export type ScheduleOptions = {
  readonly service: string;
  readonly database: Database;
  /** By their names (`scheduleName`). */
  readonly schedules: ReadonlyMap<string, Schedule>;
  readonly types: ReadonlyMap<string, TaskOptions>;
  readonly offersTasks: boolean;
  readonly enqueued: (tasks: readonly NewTask[]) => void;
  readonly clock: Clock;
  readonly timings: Timings;
  readonly logger: Log;
  readonly metrics: Metrics;
};

type Row = { readonly name: string; readonly cron: string; readonly timeZone: string; readonly nextAt: Timestamp };

/** So many of the times that passed are made up for in one transaction. */
const TIMES_A_ROUND = 1_000;
const CANT_MAKE = "a schedule can't make its task";
/** With `missed: "skip"`, a time that has passed by less isn't missed. */
const SOON_MS = 60_000;

/**
 * Enqueues the tasks of schedules when their time has come. Of all processes the one that is first does it: it holds the schedule's row
 * until it has written the task and the next time. Times are those of the row, which whoever starts with another cron or time zone
 * changes.
 */
export function startSchedules(options: ScheduleOptions): { stop(): Promise<void> } {
  const { service, database, schedules, offersTasks, enqueued, clock, timings, logger, metrics } = options;
  const fired = metrics.counter("polis_schedule_tasks_total", "Tasks that a schedule has enqueued", ["service", "schedule"]);
  const stopping = new AbortController();
  /** Those that have failed, and when. */
  const faulty = new Map<string, number>();

  /** Returns when to look again, in milliseconds since the epoch. */
  const look = async (): Promise<number> => {
    const now = new Date(clock());
    const names = [...schedules.keys()].filter(
      (name) => performance.now() - (faulty.get(name) ?? Number.NEGATIVE_INFINITY) >= timings.schedulePollMs,
    );
    const counts = new Map<string, number>();
    const tasks = await database.transaction(async (tx) => {
      const { rows } = await tx.query<Row>({
        name: "schedules due",
        text: `SELECT name, cron, time_zone AS "timeZone", next_at AS "nextAt" FROM task_schedules
               WHERE name = ANY($1::text[]) AND next_at <= to_timestamp($2::float8 / 1000) ORDER BY name FOR NO KEY UPDATE SKIP LOCKED`,
        values: [names, now.getTime()],
      });
      if (rows.length === 0) return [];
      const made: NewTask[] = [];
      const nextAt: number[] = [];
      const acted: Row[] = [];
      for (const row of rows) {
        try {
          const { chosen, next } = timesOf(row, schedules.get(row.name) as Schedule, now);
          const tasks = chosen.map((at) => taskAt(options, row.name, at));
          made.push(...tasks);
          counts.set(row.name, tasks.length);
          nextAt.push(next.getTime());
          acted.push(row);
        } catch (error) {
          // It alone stays where it is, and is tried again after a while.
          faulty.set(row.name, performance.now());
          logger.error({ err: error, schedule: row.name }, CANT_MAKE);
        }
      }
      if (acted.length === 0) return [];
      await tx.commit([
        {
          name: "schedules fired",
          text: `UPDATE task_schedules SET fired_at = next_at, next_at = to_timestamp(coming / 1000)
                 FROM unnest($1::text[], $2::float8[]) fired (schedule, coming) WHERE name = schedule`,
          values: [acted.map(({ name }) => name), nextAt],
        },
        ...(made.length > 0 ? enqueueTasks(made, offersTasks) : []),
      ]);
      return made;
    });
    for (const [schedule, times] of counts) fired.inc({ service, schedule }, times);
    if (tasks.length > 0) enqueued(tasks);
    const { rows } = await database.query<{ nextAt: Timestamp | null }>({
      name: "schedules next",
      text: `SELECT min(next_at) AS "nextAt" FROM task_schedules WHERE name = ANY($1::text[])`,
      values: [names],
    });
    const next = rows[0]?.nextAt;
    return next ? timestampDate(next).getTime() : Number.POSITIVE_INFINITY;
  };

  const run = async (): Promise<void> => {
    for (let failures = 0; !stopping.signal.aborted; ) {
      try {
        const waitMs = (await look()) - clock();
        failures = 0;
        // Where it has come already, there are more times to make up for, or another process has the row just now.
        await pause(Math.max(Math.min(waitMs, timings.schedulePollMs), timings.scheduleRoundMs), stopping.signal);
      } catch (error) {
        failures += 1;
        logger.warn({ err: error, failures }, "schedules wait");
        await pause(growingPauseMs(failures, timings), stopping.signal);
      }
    }
  };
  const running = schedules.size > 0 ? run() : Promise.resolve();

  return {
    stop() {
      stopping.abort();
      return running;
    },
  };
}

type TaskMaking = Pick<ScheduleOptions, "service" | "schedules" | "types" | "clock">;

/**
 * Throws, naming the schedule, where the service doesn't have its task. One whose next task can't be made is told already now, and
 * keeps nobody from starting: it may be for want of next year's holidays.
 */
export function checkSchedules(options: TaskMaking & Pick<ScheduleOptions, "logger">): void {
  const { schedules, types, clock, logger } = options;
  for (const [name, schedule] of schedules) {
    const { typeName } = schedule.schema;
    if (!types.has(typeName)) throw new Error(`the schedule ${name} enqueues ${typeName}, which the manifest doesn't name among its tasks`);
    const at = timeAfter(schedule, new Date(clock()));
    try {
      taskAt(options, name, at);
    } catch (error) {
      logger.error({ err: error, schedule: name, at }, CANT_MAKE);
    }
  }
}

/** Under a key of schedule and time: twice is impossible, whatever happens to the row. */
function taskAt({ service, schedules, types, clock }: TaskMaking, name: string, at: Date): NewTask {
  const { schema, dataAt } = schedules.get(name) as Schedule;
  return newTask(schema, dataAt(at) as never, types.get(schema.typeName) as TaskOptions, {
    key: `schedule ${name} ${at.toISOString()}`,
    nowMs: clock(),
    actor: callerName(serviceCaller(service)),
    traceparent: "",
    causationId: "",
  });
}

/** Which of the times that have come get a task, and when the next one comes. */
function timesOf(row: Row, { missed }: Schedule, now: Date): { chosen: readonly Date[]; next: Date } {
  let next = timestampDate(row.nextAt);
  if (missed !== "all") {
    // Not one after the other from the first on: there may be millions.
    const last = lastTime(row, now) ?? next;
    const isMissed = missed === "skip" && now.getTime() - last.getTime() > SOON_MS;
    return { chosen: isMissed ? [] : [last], next: timeAfter(row, now) };
  }
  const times: Date[] = [];
  for (; next <= now && times.length < TIMES_A_ROUND; next = timeAfter(row, next)) times.push(next);
  return { chosen: times, next };
}

/** Writes schedules down that aren't yet; one with another cron or time zone than before begins anew, from now on. */
export async function ensureSchedules(database: Database, schedules: ReadonlyMap<string, Schedule>, now: Date): Promise<void> {
  const list = [...schedules].sort(([a], [b]) => (a < b ? -1 : 1));
  if (list.length === 0) return;
  await database.query({
    text: `INSERT INTO task_schedules (name, cron, time_zone, next_at)
           SELECT name, cron, time_zone, to_timestamp(next_at / 1000) FROM unnest($1::text[], $2::text[], $3::text[], $4::float8[]) s (name, cron, time_zone, next_at)
           ON CONFLICT (name) DO UPDATE SET cron = excluded.cron, time_zone = excluded.time_zone, next_at = excluded.next_at
           WHERE (task_schedules.cron, task_schedules.time_zone) <> (excluded.cron, excluded.time_zone)`,
    values: [
      list.map(([name]) => name),
      list.map(([, { cron }]) => cron),
      list.map(([, { timeZone }]) => timeZone),
      list.map(([, schedule]) => timeAfter(schedule, now).getTime()),
    ],
  });
}
