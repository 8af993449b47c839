import type { Caller } from "#platform/access/caller.ts";
import type { Peers } from "#platform/rpc/client.ts";
import type { EdgeDefinition, ServiceDefinition } from "#platform/service.ts";

/** A list of services that make one product. */
export type System = {
  /** As `--system` names it. */
  readonly name: string;
  /** As its documentation is headed. */
  readonly title: string;
  readonly services: readonly ServiceDefinition[];
  readonly edges: readonly EdgeDefinition[];
  readonly demo: Demo;
};

/** Puts data there to look at; safe to run at every start. Returns a line that says what to do with it. */
export type Demo = (clientFor: (caller: Caller) => Peers) => Promise<string>;
