import { timestampMs } from "@bufbuild/protobuf/wkt";
import { ForgetAnswersSchema, ForgetHandledSchema, ForgetTasksSchema } from "#contracts/polis/housekeeping/v1/housekeeping_pb.ts";
import { groupName } from "#platform/events/define-consumer.ts";
import { PAST_RETENTION_MS } from "#platform/events/event-log.ts";
import { topicsOf } from "#platform/events/event-types.ts";
import { inboxGroup, pruneInbox } from "#platform/inbox/inbox.ts";
import type { ServiceDefinition } from "#platform/service.ts";
import { forgetTasks } from "#platform/tasks/claims.ts";
import { type Schedule, schedule, scheduleName } from "#platform/tasks/define-schedule.ts";
import { type Task, task } from "#platform/tasks/define-task.ts";
import { pruneAnswers } from "#platform/writes/idempotency.ts";

const ROWS_A_STATEMENT = 2_000;
const EACH_MINUTE = "* * * * *";
const EACH_HOUR = "17 * * * *";

/** What every service does with what it needn't keep any longer, and when. */
function housekeepingOf({ name, consumers }: Pick<ServiceDefinition, "name" | "consumers">): {
  readonly tasks: { readonly [name: string]: Task };
  readonly schedules: { readonly [name: string]: Schedule };
} {
  const forgetAnswers = task(ForgetAnswersSchema, {
    prepare: (_, { sql, now, signal }) => untilDone(signal, () => pruneAnswers(sql, timestampMs(now), ROWS_A_STATEMENT)),
    write: (_tx, _task, { prepared }) => prepared,
  });
  const forgetTasksTask = task(ForgetTasksSchema, {
    prepare: (_, { sql, signal }) => untilDone(signal, () => forgetTasks(sql, ROWS_A_STATEMENT)),
    write: (_tx, _task, { prepared }) => prepared,
  });
  const forgetHandled = task(ForgetHandledSchema, {
    async prepare(_, { sql, signal }) {
      const said: string[] = [];
      for (const [consumerName, { handlers }] of Object.entries(consumers)) {
        const group = groupName(name, consumerName);
        const keptMs =
          Math.max(...topicsOf(handlers.map(({ schema }) => schema)).map(({ retentionMs }) => retentionMs)) + PAST_RETENTION_MS;
        const id = await inboxGroup(sql, group);
        said.push(`${group}: ${await untilDone(signal, () => pruneInbox(sql, id, keptMs, ROWS_A_STATEMENT))}`);
      }
      return said.join(", ");
    },
    write: (_tx, _task, { prepared }) => prepared,
  });
  return {
    tasks: { forgetAnswers, forgetHandled, forgetTasks: forgetTasksTask },
    schedules: {
      forgetAnswers: schedule(ForgetAnswersSchema, { cron: EACH_MINUTE }),
      forgetHandled: schedule(ForgetHandledSchema, { cron: EACH_HOUR }),
      forgetTasks: schedule(ForgetTasksSchema, { cron: EACH_MINUTE }),
    },
  };
}

/** A service's own tasks, and those that every service has. */
export const allTasksOf = (service: Pick<ServiceDefinition, "name" | "consumers" | "tasks">): Task[] => [
  ...Object.values(housekeepingOf(service).tasks),
  ...Object.values(service.tasks),
];

/** A service's own schedules, and those that every service has, by their names. */
export const allSchedulesOf = (service: Pick<ServiceDefinition, "name" | "consumers" | "schedules">): ReadonlyMap<string, Schedule> =>
  new Map(
    Object.entries({ ...housekeepingOf(service).schedules, ...service.schedules }).map(([key, schedule]) => [
      scheduleName(service.name, key),
      schedule,
    ]),
  );

/** A statement after the other, so that none holds many rows for long; tells how many rows went. */
async function untilDone(signal: AbortSignal, forget: () => Promise<number>): Promise<string> {
  for (let forgotten = 0; ; ) {
    const rows = await forget();
    forgotten += rows;
    if (rows < ROWS_A_STATEMENT || signal.aborted) return `${forgotten} forgotten`;
  }
}
