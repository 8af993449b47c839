import type { Secrets } from "#platform/access/secrets.ts";
import type { Clock } from "#platform/clock.ts";
import type { SettingsOf, SettingsTable } from "#platform/config/settings.ts";
import type { Kv } from "#platform/kv/kv.ts";
import type { Database } from "#platform/postgres/database.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/** What a resource is opened on. */
export type ResourceGround<Settings> = {
  /** As the environment has them. */
  readonly settings: Settings;
  /** The service's own. */
  readonly database: Database;
  readonly secrets: Secrets;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
};

/** What a service opens once in each of its processes, beside its database: a client of an outside provider, a bound on costly work, keys. */
export type Resource<Handle> = {
  /** `<service>.<what it is>`, as in `auth.passwords`. */
  readonly name: string;
  readonly settings: SettingsTable;
  // biome-ignore lint/suspicious/noExplicitAny: what its settings are is known to the definition alone
  open(ground: ResourceGround<any>): Handle | Promise<Handle>;
  close(handle: Handle): void | Promise<void>;
};

/**
 * Defines a resource. It is open before the service answers, and closed after it has ended; where it can't be opened, the process
 * doesn't start.
 */
export const resource = <Handle, const Table extends SettingsTable = Record<never, never>>(
  name: string,
  {
    settings,
    open,
    close = () => undefined,
  }: {
    /** Variables of the environment that it reads; `polis config` lists them. */
    readonly settings?: Table;
    open(ground: ResourceGround<SettingsOf<Table>>): Handle | Promise<Handle>;
    close?(handle: Handle): void | Promise<void>;
  },
): Resource<Handle> => ({ name, settings: settings ?? {}, open, close });

/** Gives what a resource has been opened as. Throws for one that the manifest doesn't name. */
export type Use = <Handle>(resource: Resource<Handle>) => Handle;

/** What a service works with in a process beside its database and its peers. */
export type Equipment = {
  /** The key-value store, for the kinds that the manifest names. */
  readonly kv: Kv;
  /** The resources that the manifest names. */
  readonly use: Use;
};
