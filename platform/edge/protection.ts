import type { DescMethod } from "@bufbuild/protobuf";
import type { FastifyRequest } from "fastify";
import { type Caller, callerName } from "#platform/access/caller.ts";
import type { Clock } from "#platform/clock.ts";
import { addressListOf } from "#platform/edge/address-list.ts";
import { type ClientAddress, clientAddress } from "#platform/edge/client-address.ts";
import { type Cors, corsOf } from "#platform/edge/cors.ts";
import type { EdgeSettings } from "#platform/edge/edge-settings.ts";
import { type LimitTools, openLimits } from "#platform/edge/limits.ts";
import { countedAs, inNetworks } from "#platform/edge/networks.ts";
import type { Quota } from "#platform/edge/quota.ts";
import type { SharedLimit } from "#platform/edge/shared-limit.ts";
import { openShedding } from "#platform/edge/shedding.ts";
import { type WatchedAddresses, watchAddresses } from "#platform/edge/watched-addresses.ts";
import { httpFault, overloaded } from "#platform/rest/problem.ts";

/** A year. Without its subdomains: they are others' to decide about. */
const HSTS = "max-age=31536000";

/** What keeps an edge from being overrun, by hands or by chance. Each of its steps throws HttpFault, or rejects, where it says no. */
export type Protection = {
  readonly settings: Pick<EdgeSettings, "connectionsMax" | "connectionsPerAddressMax">;
  readonly addressOf: ClientAddress;
  /** A proxy that is trusted: its connections are many clients'. */
  isProxy(address: string): boolean;
  readonly cors: Cors | undefined;
  /** What every answer says besides, names and values in turn. */
  headersFor(headers: FastifyRequest["headers"]): readonly string[];
  /** First of all, by its address: whether it may call, and how often. */
  meetAddress(request: FastifyRequest): void | Promise<void>;
  /** Then, before it is known who calls: whether there is room, and how often the method may be called from there. */
  enter(method: DescMethod, request: FastifyRequest): void | Promise<void>;
  /** Then, by who calls. */
  meetCaller(method: DescMethod, request: FastifyRequest): void | Promise<void>;
  close(): Promise<void>;
};

/** Opens the protection of an edge. Throws, naming the method, where a limit of a contract doesn't hold. */
export async function openProtection(
  settings: EdgeSettings,
  methods: readonly DescMethod[],
  { clock, ...tools }: LimitTools & { readonly clock: Clock },
): Promise<Protection> {
  const { edge, kv, log, metrics } = tools;
  const limits = openLimits(settings, methods, tools);
  const kind = addressListOf(edge);
  const addresses: WatchedAddresses = await watchAddresses(kv.of(kind), { clock, log, metrics });
  const shedding = openShedding(settings, metrics);
  const cors = corsOf(settings.corsOrigins);
  const always = settings.publicUrl.startsWith("https://") ? ["strict-transport-security", HSTS] : [];
  const blocked = metrics.counter("polis_blocked_total", "Requests from addresses that are blocked", []);
  const noted = ({ exchange }: FastifyRequest, quota: Quota): void => {
    if (exchange.quotas === undefined) exchange.quotas = [quota];
    else exchange.quotas.push(quota);
    if (quota.isTaken) return;
    limits.refused(quota.policy);
    throw httpFault("rate_limited", undefined, { "retry-after": String(Math.ceil(quota.resetMs / 1000)) });
  };
  const take = (request: FastifyRequest, limit: SharedLimit, key: string): void | Promise<void> => {
    const quota = limit.take(key);
    return quota instanceof Promise ? quota.then((answered) => noted(request, answered)) : noted(request, quota);
  };
  const takeAll = async (request: FastifyRequest, wanted: readonly (readonly [SharedLimit, string])[]): Promise<void> => {
    for (const [limit, key] of wanted) await take(request, limit, key);
  };
  return {
    settings,
    addressOf: clientAddress(settings.proxies),
    isProxy: inNetworks(settings.proxies),
    cors,
    headersFor: (headers) => (cors === undefined ? always : [...always, ...cors.answerTo(headers)]),
    meetAddress(request) {
      const { exchange, method } = request;
      const standing = addresses.standingOf(exchange.address);
      if (standing === "blocked") {
        blocked.inc();
        throw httpFault("address_blocked");
      }
      exchange.isSpared = standing === "allowed";
      // What a browser asks beforehand costs next to nothing.
      if (exchange.isSpared || limits.perAddress === undefined || method === "OPTIONS") return;
      return take(request, limits.perAddress, countedAs(exchange.address));
    },
    enter(method, request) {
      const { exchange } = request;
      // Who has gone meanwhile would never leave.
      if (exchange.givenUp !== undefined) throw exchange.givenUp;
      const counted = countedAs(exchange.address);
      const place = shedding.enter(counted, method.methodKind === "unary");
      if (typeof place === "string") throw overloaded();
      exchange.place = place;
      const { perAddress } = limits.of(method);
      if (perAddress.length > 0)
        return takeAll(
          request,
          perAddress.map((limit) => [limit, counted]),
        );
    },
    meetCaller(method, request) {
      const { exchange } = request;
      const { perCaller, ofAll } = limits.of(method);
      const key = keyOf(exchange.caller);
      const general = key === undefined || exchange.isSpared ? undefined : limits.perCaller;
      if (perCaller.length + ofAll.length === 0)
        return general === undefined || key === undefined ? undefined : take(request, general, key);
      return takeAll(request, [
        ...(key === undefined ? [] : [...(general === undefined ? [] : [general]), ...perCaller].map((limit) => [limit, key] as const)),
        ...ofAll.map((limit) => [limit, "all"] as const),
      ]);
    },
    async close() {
      shedding.close();
      await addresses.close();
    },
  };
}

/**
 * A user's is their id as it is, and a program's that of its key: a text that is made anew for each request costs as much as all else
 * that is counted of it.
 */
function keyOf(caller: Caller): string | undefined {
  if (caller.kind === "user") return caller.apiKeyId ?? caller.userId;
  return caller.kind === "nobody" ? undefined : callerName(caller);
}
