import type { Database } from "#platform/postgres/database.ts";
import { housekeepingOf } from "#platform/process/housekeeping.ts";
import type { ServiceDefinition } from "#platform/service.ts";
import {
  endTasksEarly,
  listSchedules,
  listTasks,
  retryTasks,
  type StoredTask,
  showTask,
  TASK_STATES,
  type TaskFilter,
  type TaskState,
} from "#platform/tasks/stored-tasks.ts";
import { taskId } from "#platform/tasks/task-types.ts";
import { chooseServices } from "./choose-services.ts";
import { defineCommand, UsageError } from "./command.ts";
import { limitOf } from "./limit.ts";
import { printOfServices } from "./print-of-services.ts";
import { dataOption, openSettings } from "./process-settings.ts";
import { systems } from "./systems.ts";

export const tasks = defineCommand({
  usage: [
    "tasks list [SERVICE] [--queue QUEUE] [--type TYPE] [--state STATE] [--limit N] [--json] [--data FOLDER]",
    "tasks show SERVICE (TASK_ID | --type TYPE --key KEY)",
    "tasks retry SERVICE (TASK_ID | [--queue QUEUE] [--type TYPE])",
    "tasks cancel SERVICE (TASK_ID | --queue QUEUE | --type TYPE)",
    "tasks schedules [SERVICE] [--json]",
  ],
  text: `
Work that services do later. TYPE is a task's message, such as polis.orders.v1.FollowUpOrder; STATE is one of waiting, blocked (behind
another of its concurrency key), running, done, failed, canceled. What is personal is masked.

  list       tasks, the newest first (100 unless --limit says otherwise)
  show       one task, with what it is to do and what its last try failed by
  retry      has one done again that failed or was cancelled; or all of a service that failed, or of a queue or type
  cancel     ends one that hasn't ended, or all of a queue or type; what one that runs would still write is refused
  schedules  when tasks are enqueued by the calendar, and when next

Works beside running processes, with every engine; an embedded database that isn't running is started for as long as it takes.`,
  options: {
    ...dataOption,
    queue: { type: "string" },
    type: { type: "string" },
    state: { type: "string" },
    key: { type: "string" },
    limit: { type: "string", default: "100" },
    json: { type: "boolean", default: false },
  },
  async run({ queue, type, state, key, limit, json, ...flags }, [action, service, id, ...more]) {
    if (more.length > 0) throw new UsageError(`'${more.join(" ")}' is not expected here`);
    const filter = { queue, type, state: stateOf(state) };
    const act = actionOf(action, { service, id, key, filter, limit: limitOf(limit), json });
    const { services } = chooseServices(systems, service === undefined ? {} : { names: service });
    await printOfServices(services, await openSettings(flags), { act, whenNothing: "there are none" });
  },
});

type Asked = {
  readonly service: string | undefined;
  readonly id: string | undefined;
  readonly key: string | undefined;
  readonly filter: TaskFilter;
  readonly limit: number;
  readonly json: boolean;
};
type Act = (database: Database, service: ServiceDefinition) => Promise<string[]>;

/** What is to be done in each database; returns what to print. Throws UsageError before anything is opened. */
function actionOf(action: string | undefined, asked: Asked): Act {
  const { service, filter, limit, json } = asked;
  switch (action) {
    case "list":
      if (asked.id !== undefined) throw new UsageError("'list' takes a service at the most");
      return async (database, { name }) =>
        (await listTasks(database, filter, limit)).map((task) => (json ? JSON.stringify({ service: name, ...task }) : lineOf(name, task)));
    case "schedules":
      if (asked.id !== undefined) throw new UsageError("'schedules' takes a service at the most");
      return async (database) =>
        (await listSchedules(database)).map((schedule) => {
          const { name, cron, timeZone, nextAt, firedAt } = schedule;
          if (json) return JSON.stringify(schedule);
          return [name, cron, timeZone, `next ${nextAt.toISOString()}`, firedAt === undefined ? "" : `last ${firedAt.toISOString()}`]
            .join("  ")
            .trimEnd();
        });
    case "show":
      return showOf(asked);
    case "retry":
    case "cancel":
      return changeOf(action, asked);
    default:
      throw new UsageError("say list, show, retry, cancel or schedules");
  }

  function changeOf(what: "retry" | "cancel", { id }: Asked): Act {
    if (service === undefined) throw new UsageError(`'${what}' needs a SERVICE`);
    const isFiltered = filter.queue !== undefined || filter.type !== undefined;
    if (id !== undefined && isFiltered) throw new UsageError(`'${what}' takes a TASK_ID, or --queue and --type`);
    if (what === "cancel" && id === undefined && !isFiltered) throw new UsageError("'cancel' needs a TASK_ID, --queue or --type");
    const which = id === undefined ? filter : { id: uuidOf(id) };
    return async (database) => {
      const changed = await (what === "retry" ? retryTasks(database, which) : endTasksEarly(database, which));
      if (id !== undefined && changed === 0) throw new Error(`${service} has no task ${id} to ${what}: \`tasks show\` tells how it stands`);
      return [`${changed} ${what === "retry" ? "to be tried again" : "cancelled"}`];
    };
  }
}

function showOf({ service, id, key, filter: { type } }: Asked): Act {
  if (service === undefined) throw new UsageError("'show' needs a SERVICE");
  if ((id === undefined) === (key === undefined)) throw new UsageError("'show' needs a TASK_ID, or --type and --key");
  if (key !== undefined && type === undefined) throw new UsageError("--key needs --type: keys name tasks of one type");
  return async (database, definition) => {
    const schemas = [...Object.values(definition.tasks), ...Object.values(housekeepingOf(definition).tasks)].map(({ schema }) => schema);
    const schema = schemas.find(({ typeName }) => typeName === type);
    if (key !== undefined && schema === undefined)
      throw new Error(`${service} has no task ${type}; it has ${schemas.map(({ typeName }) => typeName).join(", ")}`);
    const wanted = schema === undefined || key === undefined ? uuidOf(id ?? "") : taskId(schema, key);
    const shown = await showTask(database, wanted, schemas);
    if (shown === undefined) throw new Error(`${service} has no task ${id ?? key}, or needn't keep it any more`);
    return [JSON.stringify(shown, undefined, 2)];
  };
}

function uuidOf(text: string): string {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) throw new UsageError(`'${text}' is no task's id`);
  return text;
}

function stateOf(text: string | undefined): TaskState | undefined {
  if (text === undefined) return undefined;
  const state = TASK_STATES.find((name) => name === text.toUpperCase());
  if (state === undefined) throw new UsageError(`--state must be one of ${TASK_STATES.map((name) => name.toLowerCase()).join(", ")}`);
  return state;
}

function lineOf(service: string, { id, type, queue, key, state, attempts, progress, runAt, cause, result }: StoredTask): string {
  return [
    runAt.toISOString(),
    state.toLowerCase().padEnd(8),
    service,
    queue,
    id,
    type,
    ...(key === undefined ? [] : [`key ${key}`]),
    `tries ${attempts}`,
    ...(progress === undefined ? [] : [`${Math.round(progress * 100)} %`]),
    result ?? cause ?? "",
  ]
    .join("  ")
    .trimEnd();
}
