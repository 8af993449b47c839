import type { QueueChoice } from "#platform/config/setting-types.ts";
import { SettingsError } from "#platform/config/settings.ts";
import { allTasksOf } from "#platform/process/housekeeping.ts";
import type { ServiceDefinition } from "#platform/service.ts";
import { ownersOfQueues } from "#platform/tasks/task-types.ts";

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
