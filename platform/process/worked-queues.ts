import type { QueueChoice } from "#platform/config/setting-types.ts";
import { SettingsError } from "#platform/config/settings.ts";
import { housekeepingOf } from "#platform/process/housekeeping.ts";
import type { ServiceDefinition } from "#platform/service.ts";
import { type Schedule, scheduleName } from "#platform/tasks/define-schedule.ts";
import type { Task } from "#platform/tasks/define-task.ts";
import { ownersOfQueues } from "#platform/tasks/task-types.ts";

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

/**
 * Whether this process does the tasks of a queue: POLIS_QUEUES. Throws where it names one that no service of the system has, or two
 * services have the same queue.
 */
export function workedQueues(
  services: readonly Pick<ServiceDefinition, "name" | "consumers" | "tasks">[],
  choice: QueueChoice | undefined,
): (queue: string) => boolean {
  const owners = ownersOfQueues(services.map((service) => ({ name: service.name, tasks: allTasksOf(service) })));
  if (choice === undefined) return () => true;
  const unknown = choice.names.filter((name) => !owners.has(name));
  if (unknown.length > 0)
    throw new SettingsError([`POLIS_QUEUES: there is no queue ${unknown.join(", ")}; there are ${[...owners.keys()].sort().join(", ")}`]);
  const named = new Set(choice.names);
  return (queue) => named.has(queue) !== choice.isAllBut;
}
