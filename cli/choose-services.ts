import { nearest } from "#platform/config/settings.ts";
import type { EdgeDefinition, ServiceDefinition } from "#platform/service.ts";
import type { System } from "#platform/system.ts";
import { UsageError } from "./command.ts";

/** What a process hosts, and the system that it is a part of. */
export type Chosen = {
  readonly services: readonly ServiceDefinition[];
  readonly edge: EdgeDefinition | undefined;
  readonly system: { readonly title: string; readonly services: readonly ServiceDefinition[] };
  readonly demos: readonly System["demo"][];
};

/**
 * All services of all systems; those of one (`system`); or just those named (`names`, edges among them), whose peers are
 * elsewhere. Throws UsageError for a name that there isn't.
 */
export function chooseServices(
  systems: readonly System[],
  { system, names }: { readonly system?: string | undefined; readonly names?: string | undefined },
): Chosen {
  if (system !== undefined && names !== undefined) throw new UsageError("--system and --services exclude each other");
  const taken = system === undefined ? systems : systems.filter(({ name }) => name === system);
  if (system !== undefined && taken.length === 0) throw new UsageError(unknown("system", system, systems));
  const services = unique(taken.flatMap((one) => one.services));
  const edges = unique(taken.flatMap((one) => one.edges));
  const [only] = taken;
  const title = taken.length === 1 && only !== undefined ? only.title : "Polis";
  const whole = { system: { title, services }, demos: taken.map(({ demo }) => demo) };
  if (names === undefined) return { ...whole, services, edge: oneEdge(edges) };
  const asked = [...new Set(names.split(",").map((name) => name.trim()))].filter((name) => name !== "");
  if (asked.length === 0)
    throw new UsageError(`--services must name some of ${[...services, ...edges].map(({ name }) => name).join(", ")}`);
  for (const name of asked)
    if (![...services, ...edges].some((one) => one.name === name)) throw new UsageError(unknown("service", name, [...services, ...edges]));
  return {
    ...whole,
    services: services.filter(({ name }) => asked.includes(name)),
    edge: oneEdge(edges.filter(({ name }) => asked.includes(name))),
  };
}

function oneEdge(edges: readonly EdgeDefinition[]): EdgeDefinition | undefined {
  if (edges.length > 1) throw new UsageError(`a process has one edge, not ${edges.map(({ name }) => name).join(" and ")}`);
  return edges[0];
}

const unique = <T extends { readonly name: string }>(all: readonly T[]): T[] => [...new Map(all.map((one) => [one.name, one])).values()];

function unknown(kind: string, name: string, known: readonly { readonly name: string }[]): string {
  const names = known.map((one) => one.name);
  const near = nearest(name, names);
  return `there is no ${kind} '${name}'; ${near === undefined ? `there are ${names.join(", ")}` : `did you mean '${near}'?`}`;
}
