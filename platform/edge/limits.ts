import type { DescMethod } from "@bufbuild/protobuf";
import { methodOptions, serviceName } from "#platform/contract/method-options.ts";
import type { EdgeSettings } from "#platform/edge/edge-settings.ts";
import { type Policy, policyOf } from "#platform/edge/quota.ts";
import { SharedLimit } from "#platform/edge/shared-limit.ts";
import { StoreLine } from "#platform/edge/store-line.ts";
import { limit } from "#platform/kv/kinds.ts";
import type { Kv } from "#platform/kv/kv.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

export type LimitTools = {
  /** By whose name the kinds of keys are called. */
  readonly edge: string;
  readonly kv: Kv;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly nowMs?: () => number;
  readonly storeWaitMs?: number;
};

/** What is counted of a method before it is known who calls, and what after. */
export type LimitsOfMethod = {
  readonly perAddress: readonly SharedLimit[];
  readonly perCaller: readonly SharedLimit[];
  readonly ofAll: readonly SharedLimit[];
};

export type Limits = {
  /** Undefined where there is none. */
  readonly perAddress: SharedLimit | undefined;
  readonly perCaller: SharedLimit | undefined;
  of(method: DescMethod): LimitsOfMethod;
  refused(policy: Policy): void;
};

/** Opens the limits of an edge: the general ones, and those of its methods' contracts. Throws, naming the method, where one of these doesn't hold. */
export function openLimits(settings: EdgeSettings, methods: readonly DescMethod[], tools: LimitTools): Limits {
  const { edge, kv, log, metrics, nowMs = () => performance.now() } = tools;
  const line = new StoreLine({ log, metrics, nowMs, waitMs: tools.storeWaitMs });
  const refusals = metrics.counter("polis_limited_total", "Requests that were refused as a limit was reached, by limit", ["limit"]);
  const dropped = metrics.counter("polis_limit_clients_dropped_total", "Clients that were forgotten as there were too many, by limit", [
    "limit",
  ]);
  const sizes = metrics.gauge("polis_limit_clients", "Clients that are remembered, by limit", ["limit"]);
  const opened: SharedLimit[] = [];
  const open = (kindName: string, policy: Policy): SharedLimit => {
    const { requests, windowMs, name } = policy;
    const kind = limit(`${edge}.${kindName}`, { limit: requests, windowMs, whenAway: "open" });
    refusals.inc({ limit: name }, 0);
    const onDropped = (count: number): void => dropped.inc({ limit: name }, count);
    const shared = new SharedLimit({ policy, store: kv.of(kind), line, nowMs, keysMax: settings.limitKeysMax, onDropped });
    opened.push(shared);
    return shared;
  };
  const general = (name: string, said: EdgeSettings["limitPerAddress"]): SharedLimit | undefined =>
    said === "off" ? undefined : open(`limit.${name}`, policyOf(name, said));
  const perAddress = general("address", settings.limitPerAddress);
  const perCaller = general("caller", settings.limitPerCaller);
  const ofMethods = new Map<DescMethod, LimitsOfMethod>();
  for (const method of methods) ofMethods.set(method, limitsOf(method, open));
  metrics.measureWhenRead(() => {
    for (const { policy, size } of opened) sizes.set({ limit: policy.name }, size);
  });
  return {
    perAddress,
    perCaller,
    of: (method) => ofMethods.get(method) ?? NONE,
    refused: ({ name }) => refusals.inc({ limit: name }),
  };
}

const NONE: LimitsOfMethod = { perAddress: [], perCaller: [], ofAll: [] };

function limitsOf(method: DescMethod, open: (kindName: string, policy: Policy) => SharedLimit): LimitsOfMethod {
  const { limits } = methodOptions(method);
  if (limits.length === 0) return NONE;
  const words = method.name.replace(/(?<=[a-z0-9])(?=[A-Z])/g, "-").toLowerCase();
  const opened = limits.map(({ per, ...said }) => {
    const place = `${serviceName(method.parent)}.${words}.${per.toLowerCase()}`;
    return { per, limit: open(`limit-of.${place}-${said.windowMs}`, policyOf(`${place}-${said.windowMs / 1000}s`, said)) };
  });
  const which = (asked: string): SharedLimit[] => opened.filter(({ per }) => per === asked).map((each) => each.limit);
  return { perAddress: which("ADDRESS"), perCaller: which("CALLER"), ofAll: which("ALL") };
}
