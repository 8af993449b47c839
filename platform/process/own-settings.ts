import { type OwnSettings, platformSettings } from "#platform/config/platform-settings.ts";
import { edgeSettings } from "#platform/edge/edge-settings.ts";
import type { EdgeDefinition, ServiceDefinition } from "#platform/service.ts";

/** What services, by their resources, and edges read from the environment, beside what each process does. */
const ownSettings = (services: readonly ServiceDefinition[], edges: readonly EdgeDefinition[]): OwnSettings =>
  Object.fromEntries([
    ...[...edges, ...services.flatMap(({ resources }) => resources)].map(({ name, settings }) => [name, settings] as const),
    ...edges.map(({ name }) => [protectionOf(name), edgeSettings] as const),
  ]);

/** Whose settings an edge's protection reads. */
export const protectionOf = (edge: string): string => `${edge}.protection`;

/** Every setting of a process that may host, or call, these. */
export const settingsTableOf = (services: readonly ServiceDefinition[], edges: readonly EdgeDefinition[]) =>
  platformSettings(
    services.map(({ name }) => name),
    ownSettings(services, edges),
  );
