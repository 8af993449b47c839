import type { DescMessage, DescMethod } from "@bufbuild/protobuf";
import { type TaskOptions, tasksOf } from "#platform/tasks/task-types.ts";

/** What the service lets an item say beside its rows; anything else is a fault. */
export type Manifest = {
  readonly publishes: ReadonlySet<DescMessage>;
  /** By type. */
  readonly tasks: ReadonlyMap<string, TaskOptions>;
  /** Methods whose answers are cached. */
  readonly caches: ReadonlySet<DescMethod>;
  /** Whether a broker is given the tasks that are due at once. */
  readonly offersTasks: boolean;
};

export const manifestOf = (
  service: string,
  parts: {
    readonly publishes?: readonly DescMessage[];
    readonly tasks?: readonly DescMessage[];
    readonly caches?: readonly DescMethod[];
    readonly offersTasks?: boolean;
  },
): Manifest => ({
  publishes: new Set(parts.publishes),
  tasks: tasksOf(parts.tasks ?? [], service),
  caches: new Set(parts.caches),
  offersTasks: parts.offersTasks ?? false,
});
