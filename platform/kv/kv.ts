import type { DescService } from "@bufbuild/protobuf";
import { serviceName } from "#platform/contract/method-options.ts";
import { copiedValues, type KeptValues } from "#platform/kv/copied-values.ts";
import type { KvEngine, OpenKvEngine } from "#platform/kv/engine.ts";
import { guardOf } from "#platform/kv/guard.ts";
import type { Kind } from "#platform/kv/kinds.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/** The key-value store: each kind of data where its loss has it be. */
export type Kv = {
  /** The handle of a kind, always the same. */
  of<Handle>(kind: Kind<Handle>): Handle;
};

/**
 * @param kept PostgreSQL, for what may not be lost
 * @param passing for what may: PostgreSQL's tables without a log, or Redis
 * @param copies Redis, where reads of what is kept are answered from copies
 */
export function createKv(options: {
  readonly kept: KvEngine & KeptValues;
  readonly passing: KvEngine;
  readonly copies: OpenKvEngine | undefined;
  readonly metrics: Metrics;
}): Kv {
  const { kept, passing, copies, metrics } = options;
  const durable: KvEngine = copies === undefined ? kept : { ...kept, ...copiedValues(kept, copies) };
  const opened = new Map<string, { readonly kind: Kind<unknown>; readonly handle: unknown }>();
  return {
    of<Handle>(kind: Kind<Handle>): Handle {
      const known = opened.get(kind.name);
      if (known !== undefined && known.kind !== kind) throw new Error(`${kind.name} is the name of two kinds of keys`);
      const handle = known?.handle ?? kind.open({ engine: kind.loss === "durable" ? durable : passing, guard: guardOf(kind, metrics) });
      if (known === undefined) opened.set(kind.name, { kind, handle });
      return handle as Handle;
    },
  };
}

/** The store of a process that has one. */
export function requireKv(kv: Kv | undefined): Kv {
  if (kv === undefined) throw new Error("no key-value store is open");
  return kv;
}

/** The kinds in which a service's cache has its answers. */
export const cacheKinds = (service: string) => ({ answers: `${service}.answers`, groups: `${service}.answer-groups` }) as const;

/**
 * The store as one service has it: of the kinds that its manifest names (`keeps`), and no others. All are opened, so that a name that
 * is no good is found now, and what each has lost is counted from nothing on.
 */
export function kvOf(contract: DescService, keeps: readonly Kind<unknown>[], kv: Kv | undefined): Kv {
  const service = serviceName(contract);
  const file = `${contract.file.proto.package.replaceAll(".", "/")}/kept`;
  const taken = new Set<string>();
  const cached: readonly string[] = Object.values(cacheKinds(service));
  for (const { name, schema } of keeps) {
    if (!name.startsWith(`${service}.`)) throw new Error(`${service} keeps ${name}: its kinds of keys are named ${service}.…`);
    if (cached.includes(name))
      throw new Error(`${service} keeps ${name}: so the platform names what the service's cache has; take another name`);
    if (taken.has(name)) throw new Error(`${service} keeps ${name} twice: each kind of keys has a name of its own`);
    taken.add(name);
    // There alone it is seen when something of a message goes that another release has written.
    if (schema !== undefined && schema.file.name !== file)
      throw new Error(
        `${service} keeps ${name}: ${schema.typeName} is in ${schema.file.name}.proto; what is kept must be in ${file}.proto`,
      );
  }
  const kept = new Set(keeps);
  for (const kind of kept) requireKv(kv).of(kind);
  return {
    of(kind) {
      if (!kept.has(kind)) throw new Error(`${service} uses ${kind.name}, which its manifest doesn't name among what it keeps`);
      return requireKv(kv).of(kind);
    },
  };
}
