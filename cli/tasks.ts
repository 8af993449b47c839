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

export const tasks = defineCommand({
  usage: [
    "tasks list [SERVICE] [--queue QUEUE] [--type TYPE] [--state STATE] [--limit N] [--json] [--data FOLDER]",
    "tasks show SERVICE (TASK_ID | --type TYPE --key KEY)",
    "tasks retry SERVICE (TASK_ID | [--queue QUEUE] [--type TYPE])",
    "tasks cancel SERVICE (TASK_ID | --queue QUEUE | --type TYPE)",
    "tasks schedules [SERVICE] [--json] [--data FOLDER]",
  ],
  text: `
Work that services do later. TYPE is a task's message, such as polis.orders.v1.FollowUpOrder; STATE is one of waiting (it is due),
delayed (its time hasn't come), blocked (behind another of its concurrency key), running, done, failed, canceled. What is personal is
masked.

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
    limit: { type: "string", default: "100" },
    json: { type: "boolean", default: false },
  },
  async run({ queue, type, state, key, limit, json, ...flags }, [action, service, id, ...more]) {
    if (more.length > 0) throw new UsageError(`'${more.join(" ")}' is not expected here`);
    const filter = { queue, type, state: stateOf(state) };
    const { services } = chooseServices(systems, service === undefined ? {} : { names: service });
    const act = actionOf(action, { service, id, key, filter, limit: limitOf(limit), json, among: services.length });
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
  /** How many services are asked. */
  readonly among: number;
};
type Act = (database: Database, service: ServiceDefinition) => Promise<string[]>;

/** What is to be done in each database; returns what to print. Throws UsageError before anything is opened. */
function actionOf(action: string | undefined, asked: Asked): Act {
  const { service, filter, limit, json } = asked;
  switch (action) {
    case "list":
      if (asked.id !== undefined) throw new UsageError("'list' takes a service at the most");
      return where(asked, async (database, { name }) =>
        (await listTasks(database, filter, limit)).map((task) =>
          json ? JSON.stringify({ service: name, ...task, state: stateName(task.state) }) : lineOf(name, task),
        ),
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
    default:
      throw new UsageError("say list, show, retry, cancel or schedules");
  }

  function changeOf(what: "retry" | "cancel", { id }: Asked): Act {
    if (service === undefined) throw new UsageError(`'${what}' needs a SERVICE`);
    const isFiltered = filter.queue !== undefined || filter.type !== undefined;
    if (id !== undefined && isFiltered) throw new UsageError(`'${what}' takes a TASK_ID, or --queue and --type`);
    if (what === "cancel" && id === undefined && !isFiltered) throw new UsageError("'cancel' needs a TASK_ID, --queue or --type");
    const which = id === undefined ? filter : { id: uuidOf(id) };
    return where(asked, async (database) => {
      const changed = await (what === "retry" ? retryTasks(database, which) : endTasksEarly(database, which));
      if (id !== undefined && changed === 0) throw new Error(`${service} has no task ${id} to ${what}: \`tasks show\` tells how it stands`);
      return [`${changed} ${what === "retry" ? "to be tried again" : "cancelled"}`];
    });
  }
}

/** `act` in services that have what the filter names. Throws where none has: a slip isn't to look as if there were nothing to do. */
function where({ filter, among }: Asked, act: Act): Act {
  const lacks: string[] = [];
  return async (database, service) => {
    const lack = await lackOf(database, service, filter);
    if (lack === undefined) return act(database, service);
    lacks.push(lack);
    if (lacks.length === among) throw new Error(lacks.join("; "));
    return [];
  };
}

/** What a service lacks of a filter's queue and type: it has those of its manifest, and those that older tasks still have. */
async function lackOf(database: Database, service: ServiceDefinition, { queue, type }: TaskFilter): Promise<string | undefined> {
  const own = tasksOf(schemasOf(service), service.name);
  const ownQueues = [...own.values()].map((options) => options.queue);
  const isOwn = (queue === undefined || ownQueues.includes(queue)) && (type === undefined || own.has(type));
  if (isOwn) return undefined;
  const filed = await filedUnder(database);
  const lackIn = (kind: string, name: string | undefined, names: ReadonlySet<string>): string | undefined =>
    name === undefined || names.has(name) ? undefined : `${service.name} has no ${kind} ${name}; it has ${[...names].sort().join(", ")}`;
  return lackIn("queue", queue, new Set([...ownQueues, ...filed.queues])) ?? lackIn("task", type, new Set([...own.keys(), ...filed.types]));
}

const schemasOf = (service: ServiceDefinition) => allTasksOf(service).map(({ schema }) => schema);

function showOf({ service, id, key, filter: { type } }: Asked): Act {
  if (service === undefined) throw new UsageError("'show' needs a SERVICE");
  if ((id === undefined) === (key === undefined)) throw new UsageError("'show' needs a TASK_ID, or --type and --key");
  if (key !== undefined && type === undefined) throw new UsageError("--key needs --type: keys name tasks of one type");
  return async (database, definition) => {
    const schemas = schemasOf(definition);
    const schema = schemas.find(({ typeName }) => typeName === type);
    if (key !== undefined && schema === undefined)
      throw new Error(`${service} has no task ${type}; it has ${schemas.map(({ typeName }) => typeName).join(", ")}`);
    const wanted = schema === undefined || key === undefined ? uuidOf(id ?? "") : taskId(schema, key);
    const shown = await showTask(database, wanted, schemas);
    if (shown === undefined) throw new Error(`${service} has no task ${id ?? key}, or needn't keep it any more`);
    return [JSON.stringify({ ...shown, state: stateName(shown.state) }, undefined, 2)];
  };
}

function uuidOf(text: string): string {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) throw new UsageError(`'${text}' is no task's id`);
  return text;
}

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
