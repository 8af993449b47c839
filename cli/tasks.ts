import { isUuid } from "#platform/ids.ts";
import type { Database } from "#platform/postgres/database.ts";
import { allSchedulesOf, allTasksOf } from "#platform/process/housekeeping.ts";
import type { ServiceDefinition } from "#platform/service.ts";
import {
  endTasksEarly,
  filedUnder,
  listSchedules,
  listTasks,
  retryTasks,
  type StoredSchedule,
  type StoredTask,
  showTask,
  TASK_STATES,
  type TaskFilter,
  type TaskState,
} from "#platform/tasks/stored-tasks.ts";
import { taskId, tasksOf } from "#platform/tasks/task-types.ts";
import { chooseServices } from "./choose-services.ts";
import { defineCommand, UsageError } from "./command.ts";
import { limitOf } from "./limit.ts";
import { printOfServices } from "./print-of-services.ts";
import { dataOption, openSettings } from "./process-settings.ts";
import { systems } from "./systems.ts";

/** How each action is called: an option that isn't in its line is refused, and not passed over. */
const usage = {
  list: "[SERVICE] [--queue QUEUE] [--type TYPE] [--state STATE] [--limit N] [--json]",
  show: "SERVICE (TASK_ID | --type TYPE --key KEY)",
  retry: "SERVICE (TASK_ID | --type TYPE --key KEY | [--queue QUEUE] [--type TYPE])",
  cancel: "SERVICE (TASK_ID | --type TYPE --key KEY | --queue QUEUE | --type TYPE)",
  schedules: "[SERVICE] [--json]",
};
type Action = keyof typeof usage;

export const tasks = defineCommand({
  usage: Object.entries(usage).map(([action, takes]) => `tasks ${action} ${takes} [--data FOLDER]`),
  text: `
Work that services do later. TYPE is a task's message, such as polis.orders.v1.FollowUpOrder; KEY is what one of a type was enqueued
under; STATE is one of waiting (it is due), delayed (its time hasn't come), blocked (behind another of its concurrency key), running,
done, failed, canceled. What is personal is masked.

  list       tasks, the newest first (100 unless --limit says otherwise)
  show       one task, with what it is to do and what its last try failed by
  retry      has one done again that failed or was cancelled; or all of a service that failed, or of a queue or type
  cancel     ends one that hasn't ended, or all of a queue or type; what one that runs would still write is refused
  schedules  when tasks are enqueued by the calendar, and when next; one that is in no manifest of this release enqueues nothing

Works beside running processes, with every engine; an embedded database that isn't running is started for as long as it takes.`,
  options: {
    ...dataOption,
    queue: { type: "string" },
    type: { type: "string" },
    state: { type: "string" },
    key: { type: "string" },
    limit: { type: "string" },
    json: { type: "boolean" },
  },
  async run({ data, ...said }, [action = "", service, id, ...more]) {
    if (more.length > 0) throw new UsageError(`'${more.join(" ")}' is not expected here`);
    if (!Object.hasOwn(usage, action)) throw new UsageError("say list, show, retry, cancel or schedules");
    for (const option of Object.keys(said))
      if (!usage[action as Action].includes(`--${option}`)) throw new UsageError(`'${action}' takes no --${option}`);
    const { queue, type, state, key, limit = "100", json = false } = said;
    const { services } = chooseServices(systems, service === undefined ? {} : { names: service });
    const filter = { queue, type, state: stateOf(state) };
    const act = actionOf(action as Action, { service, id, key, filter, limit: limitOf(limit), json });
    await printOfServices(services, await openSettings({ data }), {
      act,
      lackOf: (definition, database) => lackOf(definition, database, filter),
      whenNothing: "there are none",
    });
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
function actionOf(action: Action, asked: Asked): Act {
  const { filter, limit, json } = asked;
  switch (action) {
    case "list":
      if (asked.id !== undefined) throw new UsageError("'list' takes a service at the most");
      return async (database, { name }) =>
        (await listTasks(database, filter, limit)).map((task) =>
          json ? JSON.stringify({ service: name, ...task, state: stateName(task.state) }) : lineOf(name, task),
        );
    case "schedules":
      if (asked.id !== undefined) throw new UsageError("'schedules' takes a service at the most");
      return async (database, definition) => {
        const known = allSchedulesOf(definition);
        return (await listSchedules(database)).map((schedule) => {
          const isInManifest = known.has(schedule.name);
          return json ? JSON.stringify({ ...schedule, isInManifest }) : scheduleLine(schedule, isInManifest);
        });
      };
    case "show":
      return showOf(asked);
    case "retry":
    case "cancel":
      return changeOf(action, asked);
  }
}

function showOf(asked: Asked): Act {
  const one = oneOf("show", asked);
  if (one === undefined) throw new UsageError("'show' needs a TASK_ID, or --type and --key");
  return async (database, service) => {
    const shown = await showTask(database, one.id, schemasOf(service));
    if (shown === undefined) throw new Error(`${service.name} has no task ${one.said}, or needn't keep it any more`);
    return [JSON.stringify({ ...shown, state: stateName(shown.state) }, undefined, 2)];
  };
}

function changeOf(what: "retry" | "cancel", asked: Asked): Act {
  const one = oneOf(what, asked);
  const { queue, type } = asked.filter;
  if (what === "cancel" && one === undefined && queue === undefined && type === undefined)
    throw new UsageError("'cancel' needs a TASK_ID, --queue or --type");
  const which = one === undefined ? asked.filter : { id: one.id };
  return async (database, { name }) => {
    const changed = await (what === "retry" ? retryTasks(database, which) : endTasksEarly(database, which));
    if (one !== undefined && changed === 0)
      throw new Error(`${name} has no task ${one.said} to ${what}: \`tasks show\` tells how it stands`);
    return [`${changed} ${what === "retry" ? "to be tried again" : "cancelled"}`];
  };
}

/** The one task that is meant, and what was said of it: its id, or its key; undefined where neither was. */
function oneOf(
  action: Action,
  { service, id, key, filter: { queue, type } }: Asked,
): { readonly id: string; readonly said: string } | undefined {
  if (service === undefined) throw new UsageError(`'${action}' needs a SERVICE`);
  if (id !== undefined) {
    if ([key, queue, type].some((option) => option !== undefined)) throw new UsageError("a TASK_ID says all: no option goes with it");
    if (!isUuid(id.toLowerCase())) throw new UsageError(`'${id}' is no task's id`);
    return { id: id.toLowerCase(), said: id };
  }
  if (key === undefined) return undefined;
  if (type === undefined) throw new UsageError("--key needs --type: keys name tasks of one type");
  if (queue !== undefined) throw new UsageError("--key and --type say all: --queue doesn't go with them");
  return { id: taskId({ typeName: type }, key), said: key };
}

/**
 * What a service lacks of a filter's queue and type, so that a slip doesn't look as if there were nothing to do: it has those of its
 * manifest, and those that older tasks in its database, if that is there, still have.
 */
async function lackOf(
  service: ServiceDefinition,
  database: Database | undefined,
  { queue, type }: TaskFilter,
): Promise<string | undefined> {
  const own = tasksOf(schemasOf(service), service.name);
  const ownQueues = [...own.values()].map((options) => options.queue);
  const isOwn = (queue === undefined || ownQueues.includes(queue)) && (type === undefined || own.has(type));
  if (isOwn) return undefined;
  const filed = database === undefined ? { queues: [], types: [] } : await filedUnder(database);
  const lackIn = (kind: string, name: string | undefined, names: ReadonlySet<string>): string | undefined =>
    name === undefined || names.has(name) ? undefined : `${service.name} has no ${kind} ${name}; it has ${[...names].sort().join(", ")}`;
  return lackIn("queue", queue, new Set([...ownQueues, ...filed.queues])) ?? lackIn("task", type, new Set([...own.keys(), ...filed.types]));
}

const schemasOf = (service: ServiceDefinition) => allTasksOf(service).map(({ schema }) => schema);

function stateOf(text: string | undefined): TaskState | undefined {
  if (text === undefined) return undefined;
  const state = TASK_STATES.find((each) => stateName(each) === text);
  if (state === undefined) throw new UsageError(`--state must be one of ${TASK_STATES.map(stateName).join(", ")}`);
  return state;
}

/** As it is said and shown, here and in the metrics. */
const stateName = (state: TaskState): string => state.toLowerCase();

function lineOf(service: string, { id, type, queue, key, state, attempts, progress, runAt, cause, result }: StoredTask): string {
  return [
    runAt.toISOString(),
    stateName(state).padEnd(8),
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

function scheduleLine({ name, cron, timeZone, nextAt, firedAt }: StoredSchedule, isInManifest: boolean): string {
  const next = isInManifest ? `next ${nextAt.toISOString()}` : "in no manifest";
  return [name, cron, timeZone, next, firedAt === undefined ? "" : `last ${firedAt.toISOString()}`].join("  ").trimEnd();
}
