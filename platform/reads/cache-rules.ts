import { type DescMessage, type DescMethod, type DescMethodUnary, type Message, ScalarType, toBinary } from "@bufbuild/protobuf";
import { durationMs, FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import { Cache_Scope } from "#contracts/polis/options/v1/options_pb.ts";
import { cacheGroup, methodName, methodOptions } from "#platform/contract/method-options.ts";
import { textOrNone } from "#platform/contract/text-getter.ts";

/** The longest that an answer is kept. */
export const CACHED_MS_MAX = 24 * 3_600_000;

/** What a method's contract says of how its answers are cached. */
export type CacheRule = {
  readonly ttlMs: number;
  /** The answer is the same for everybody. */
  readonly isPublic: boolean;
  /** The name of the group of a request. */
  readonly groupOf: (request: Message) => string;
  /** What a request is told apart by from others of its method. */
  readonly keyOf: (request: Message) => string;
};

/** The methods of a service whose answers its contract lets be cached. Throws, naming the method, where that isn't answered by a `query`. */
export const cachedMethods = ({
  operations,
}: {
  readonly operations: Readonly<Record<string, { readonly kind: string; readonly method: DescMethod }>>;
}): DescMethodUnary[] =>
  Object.values(operations).flatMap(({ kind, method }): DescMethodUnary[] => {
    if (methodOptions(method).cache === undefined) return [];
    if (kind !== "query") throw fault(method, "is for what a `query` answers");
    return [method as DescMethodUnary];
  });

const fault = (method: DescMethod, text: string): Error => new Error(`${methodName(method)}: \`cache\`: ${text}`);

/** Throws, naming the method, where what the contract says can't be kept. */
export function cacheRule(method: DescMethodUnary): CacheRule {
  const { cache, idempotency, access, sensitive } = methodOptions(method);
  const ttlMs = cache?.ttl === undefined ? 0 : durationMs(cache.ttl);
  if (!(ttlMs >= 1 && ttlMs <= CACHED_MS_MAX)) throw fault(method, "its `ttl` must be from a millisecond to a day");
  if (idempotency !== "READ") throw fault(method, "is for reads");
  if (sensitive) throw fault(method, "what is sensitive is made anew for everybody who asks");
  const isPublic = cache?.scope === Cache_Scope.PUBLIC;
  if (isPublic && access.owner !== "") throw fault(method, "what belongs to an `owner` isn't the same for everybody");
  const group = cacheGroup(method);
  const groupOf = group === undefined ? () => "" : textOrNone(method.input, group, `${methodName(method)}: \`cache.group\``);
  const prefix = groupName(method, "");
  return {
    ttlMs: Math.round(ttlMs),
    isPublic,
    groupOf: (request) => prefix + groupOf(request),
    keyOf: keyOf(method.input),
  };
}

/** Names the answers of a method that are forgotten together. */
export const groupName = (method: DescMethod, group: string): string => `${methodName(method)} ${group}`;

/** Scalars whose text doesn't tell them apart. */
const UNPLAIN = new Set([ScalarType.BYTES, ScalarType.DOUBLE, ScalarType.FLOAT]);

/** The fields of a message as one text: by themselves where all are plain, which is three times as fast as the encoding. */
function keyOf(schema: DescMessage): (message: Message) => string {
  const isPlain = schema.fields.every(
    (field) => field.fieldKind === "scalar" && field.presence === FeatureSet_FieldPresence.IMPLICIT && !UNPLAIN.has(field.scalar),
  );
  if (!isPlain) return (message) => Buffer.from(toBinary(schema, message)).toString("latin1");
  const names = schema.fields.map(({ localName }) => localName);
  return (message) => {
    let key = "";
    for (const name of names) {
      const text = String((message as unknown as Record<string, unknown>)[name]);
      key += `${text.length} ${text}`;
    }
    return key;
  };
}
