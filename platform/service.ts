import type { DescMessage, DescMethodServerStreaming, DescMethodUnary, DescService } from "@bufbuild/protobuf";
import type { Clock } from "#platform/clock.ts";
import type { SettingsOf, SettingsTable } from "#platform/config/settings.ts";
import { serviceName } from "#platform/contract/method-options.ts";
import type { Consumer } from "#platform/events/define-consumer.ts";
import type { Kind } from "#platform/kv/kinds.ts";
import type { Part } from "#platform/process/readiness.ts";
import type { Query, StreamedQuery } from "#platform/reads/query.ts";
import type { Resource } from "#platform/resource.ts";
import type { Identity } from "#platform/rest/identity.ts";
import type { Peers } from "#platform/rpc/client.ts";
import type { Schedule } from "#platform/tasks/define-schedule.ts";
import type { Task } from "#platform/tasks/define-task.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";
import type { Operation, RunOperation } from "#platform/writes/definitions.ts";

/** What a service says of itself; whoever reads it knows the whole service. */
export type ServiceDefinition = {
  /** `orders`, from its contract's package. */
  readonly name: string;
  readonly contract: DescService;
  /** Where it lies; its migrations are in `migrations/`. */
  readonly folder: string;
  readonly operations: { readonly [method: string]: Operation | RunOperation | Query | StreamedQuery };
  /** By their names; the group of `onPaymentSettled` is `orders.on-payment-settled`. */
  readonly consumers: { readonly [name: string]: Consumer };
  /** What it does later, by their names. */
  readonly tasks: { readonly [name: string]: Task };
  /** When it does some of that by the calendar; the schedule `followUp` of orders is `orders.follow-up`. */
  readonly schedules: { readonly [name: string]: Schedule };
  /** Its kinds of data in the key-value store. */
  readonly keeps: readonly Kind<unknown>[];
  /** What it opens once in each of its processes. */
  readonly resources: readonly Resource<unknown>[];
  /** The events that it publishes. */
  readonly publishes: readonly DescMessage[];
  /** The contracts of the services that it calls. */
  readonly peers: readonly DescService[];
};

type Operations<S extends DescService> = {
  readonly [K in keyof S["method"]]: S["method"][K] extends {
    methodKind: "unary";
    input: infer I extends DescMessage;
    output: infer O extends DescMessage;
  }
    ? Operation<DescMethodUnary<I, O>> | RunOperation<DescMethodUnary<I, O>> | Query<DescMethodUnary<I, O>>
    : S["method"][K] extends {
          methodKind: "server_streaming";
          input: infer I extends DescMessage;
          output: infer O extends DescMessage;
        }
      ? StreamedQuery<DescMethodServerStreaming<I, O>>
      : never;
};

/** Defines a service. A method of the contract without its operation, or an operation without its method, doesn't compile. */
export const defineService = <S extends DescService>(
  contract: S,
  parts: {
    readonly folder: string;
    readonly operations: Operations<S>;
    readonly consumers?: { readonly [name: string]: Consumer };
    readonly tasks?: { readonly [name: string]: Task };
    readonly schedules?: { readonly [name: string]: Schedule };
    readonly keeps?: readonly Kind<unknown>[];
    // biome-ignore lint/suspicious/noExplicitAny: a resource of any handle, which it takes back when it is closed
    readonly resources?: readonly Resource<any>[];
    readonly publishes?: readonly DescMessage[];
    readonly peers?: readonly DescService[];
  },
): ServiceDefinition => ({
  name: serviceName(contract),
  contract,
  folder: parts.folder,
  operations: parts.operations as unknown as ServiceDefinition["operations"],
  consumers: parts.consumers ?? {},
  tasks: parts.tasks ?? {},
  schedules: parts.schedules ?? {},
  keeps: parts.keeps ?? [],
  resources: parts.resources ?? [],
  publishes: parts.publishes ?? [],
  peers: parts.peers ?? [],
});

/** A way in from outside: speaks REST for the contracts of a system's services, and holds nothing of its own. */
export type EdgeDefinition = {
  readonly name: string;
  readonly settings: SettingsTable;
  // biome-ignore lint/suspicious/noExplicitAny: what its settings are is known to the definition alone
  open(ground: EdgeGround<any>): OpenEdge | Promise<OpenEdge>;
};

/** What an edge is opened on. */
export type EdgeGround<Settings> = {
  readonly settings: Settings;
  /** The address that it will listen on. */
  readonly host: string;
  /** Clients of the system's services, which it calls as itself. */
  readonly peer: Peers;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
};

export type OpenEdge = {
  /** Who calls, by a request's headers. */
  readonly identity: Identity;
  /** What else has to be there for it to be ready. */
  readonly parts: readonly Part[];
  close(): void | Promise<void>;
};

/** Defines an edge; where it can't be opened, its process doesn't start. */
export const defineEdge = <const Table extends SettingsTable>(
  name: string,
  parts: {
    /** Variables of the environment that it reads; `polis config` lists them. */
    readonly settings: Table;
    open(ground: EdgeGround<SettingsOf<Table>>): OpenEdge | Promise<OpenEdge>;
  },
): EdgeDefinition => ({ name, ...parts });
