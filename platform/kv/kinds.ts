import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AsRead } from "#platform/kv/as-read.ts";
import type { FeedItem, InUse, KvEngine, Loss, Taken } from "#platform/kv/engine.ts";
import type { Guard } from "#platform/kv/guard.ts";

/** What a kind of data stands on. */
export type Ground = { readonly engine: KvEngine; readonly guard: Guard };

/** A kind of data in the key-value store, with what is known of all of its keys. */
export type Kind<Handle> = {
  /** `<service>.<what it is>`, as in `auth.session`. */
  readonly name: string;
  readonly loss: Loss;
  /** What its values are, where it has any. */
  readonly schema?: DescMessage;
  open(ground: Ground): Handle;
};

const NAME = /^[a-z][a-z0-9]*(?:[.-][a-z0-9]+)+$/;
/** Of a key, a member: the two together, with the kind, stay below what an index of PostgreSQL takes. */
const KEY_BYTES_MAX = 512;
const WINDOW_MS_MIN = 100;
const WINDOW_MS_MAX = 366 * 24 * 3_600_000;
const LIMIT_MAX = 1_000_000_000;
const VALUE_BYTES_MAX = 256 * 1024;
const AT_ONCE_MAX = 1_000;

const NAME_LENGTH_MAX = 100;

function checkName(name: string): void {
  if (!NAME.test(name))
    throw new Error(`${JSON.stringify(name)}: a kind of keys is named <service>.<words of a-z and 0-9, dots or hyphens between>`);
  if (name.length > NAME_LENGTH_MAX)
    throw new Error(`${name}: the name of a kind of keys has ${name.length} characters; at most ${NAME_LENGTH_MAX}`);
}

/** What is said in it, for callers without types as well. */
function checkChoice(kind: string, field: string, value: string, ...choices: readonly string[]): void {
  if (!choices.includes(value))
    throw new RangeError(`${kind}: \`${field}\` is ${JSON.stringify(value)}; it must be ${choices.join(" or ")}`);
}

/** @param of what it counts: `whole milliseconds` */
function checkWhole(kind: string, field: string, value: number, [min, max]: readonly [number, number], of = "a whole number"): void {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return;
  const bounds = max === Number.MAX_SAFE_INTEGER ? `from ${min} on` : `from ${min} to ${max}`;
  throw new RangeError(`${kind}: \`${field}\` is ${value}; it must be ${of} ${bounds}`);
}

/** A key or a member. Throws for one that not every engine takes. */
function checkText(kind: string, what: "key" | "member", text: string): void {
  const length = Buffer.byteLength(text);
  if (length === 0 || length > KEY_BYTES_MAX)
    throw new RangeError(`${kind}: a ${what} has ${length} bytes; it must have 1 to ${KEY_BYTES_MAX}`);
  if (text.includes("\0") || !text.isWellFormed()) throw new RangeError(`${kind}: a ${what} must be text without a NUL`);
}

function checkTexts(kind: string, what: "key" | "member", texts: readonly string[]): void {
  if (texts.length > AT_ONCE_MAX) throw new RangeError(`${kind}: ${texts.length} ${what}s at once; ${AT_ONCE_MAX} at the most`);
  for (const text of texts) checkText(kind, what, text);
}

/** A key as the engine has it. */
function full(kind: string, key: string): string {
  checkText(kind, "key", key);
  return `${kind}:${key}`;
}

function allFull(kind: string, keys: readonly string[]): string[] {
  checkTexts(kind, "key", keys);
  return keys.map((key) => `${kind}:${key}`);
}

const checkCount = (kind: string, most: number): void => checkWhole(kind, "limit", most, [1, AT_ONCE_MAX]);

const checkTtl = (kind: string, ttlMs: number): void =>
  checkWhole(kind, "ttlMs", ttlMs, [1, Number.MAX_SAFE_INTEGER], "whole milliseconds");

function checkTimed(kind: string, { loss, ttlMs }: Timed): void {
  checkChoice(kind, "loss", loss, "durable", "cache");
  if (ttlMs !== undefined) checkTtl(kind, ttlMs);
  else if (loss === "cache") throw new RangeError(`${kind}: \`ttlMs\` is missing; what can be had again must have one`);
}

type Timed = {
  readonly loss: Loss;
  /** How long each is kept; what is durable may be without an end. */
  readonly ttlMs?: number;
};

/** One value a key. Writes may name another time to live than the kind's. */
export type ValuesOf<S extends DescMessage> = {
  get(key: string): Promise<MessageShape<S> | undefined>;
  /** In the order of the keys. */
  getAll(keys: readonly string[]): Promise<(MessageShape<S> | undefined)[]>;
  set(key: string, value: MessageInitShape<S>, ttlMs?: number): Promise<void>;
  /** False where the store was away, and they may still be there. */
  delete(...keys: readonly string[]): Promise<boolean>;
  /** False where there is one. */
  add(key: string, value: MessageInitShape<S>, ttlMs?: number): Promise<boolean>;
  /** Puts `to` in the place of `from`, which `get` has given; without `to`, deletes it. False where that isn't there any more. */
  compareAndSet(key: string, from: MessageShape<S>, to: MessageInitShape<S> | undefined, ttlMs?: number): Promise<boolean>;
};

/** Values that are messages of a contract. */
export function values<S extends DescMessage>(name: string, schema: S, timed: Timed): Kind<ValuesOf<S>> {
  checkName(name);
  checkTimed(name, timed);
  const { loss, ttlMs: kindMs } = timed;
  const encode = (value: MessageInitShape<S>): Uint8Array => {
    const bytes = toBinary(schema, create(schema, value));
    if (bytes.length > VALUE_BYTES_MAX) throw new RangeError(`${name}: ${bytes.length} bytes; a value has at most ${VALUE_BYTES_MAX}`);
    return bytes;
  };
  /** As they stand there: another release may write the same message in other bytes. */
  const bytesOf = (read: MessageShape<S>): Uint8Array => AsRead.bytesOf(read) ?? toBinary(schema, read);
  const timeOf = (ttlMs: number | undefined): number | undefined => {
    if (ttlMs !== undefined) checkTtl(name, ttlMs);
    return ttlMs ?? kindMs;
  };
  return {
    name,
    loss,
    schema,
    open({ engine, guard }) {
      const decode = (bytes: Uint8Array | undefined): MessageShape<S> | undefined => {
        if (bytes === undefined) return undefined;
        const value = fromBinary(schema, bytes);
        AsRead.note(value, bytes);
        return value;
      };
      const decodeOne = (found: readonly (Uint8Array | undefined)[]): MessageShape<S> | undefined => decode(found[0]);
      return {
        async get(key) {
          const asked = [full(name, key)];
          return guard("get", undefined, () => engine.get(asked).then(decodeOne));
        },
        async getAll(keys) {
          const asked = allFull(name, keys);
          const found = await guard("get", [], () => engine.get(asked));
          return asked.map((_, n) => decode(found[n]));
        },
        async set(key, value, ttlMs) {
          const put = [full(name, key), encode(value), timeOf(ttlMs)] as const;
          return guard("set", undefined, () => engine.set(...put));
        },
        async delete(...keys) {
          const asked = allFull(name, keys);
          return guard("delete", false, () => engine.delete(asked).then(() => true));
        },
        async add(key, value, ttlMs) {
          const put = [full(name, key), encode(value), timeOf(ttlMs)] as const;
          return guard("add", false, () => engine.add(...put));
        },
        async compareAndSet(key, from, to, ttlMs) {
          const put = [full(name, key), bytesOf(from), to && encode(to), timeOf(ttlMs)] as const;
          return guard("compareAndSet", false, () => engine.compareAndSet(...put));
        },
      };
    },
  };
}

/** A limit of each key. Where the engine is away, nothing is in use, and it is over in no time (`open`) or in a window (`closed`). */
export type LimitOf = {
  /**
   * Takes so much (1), or nothing where that is more than the limit still allows. `isAway`: the engine couldn't be asked, and what is
   * answered is what the kind says for that.
   */
  take(key: string, amount?: number): Promise<Taken & { readonly isAway: boolean }>;
  look(key: string): Promise<InUse>;
  clear(...keys: readonly string[]): Promise<void>;
};

/**
 * At most `limit` in any `windowMs`, over all processes.
 * @param whenAway where the engine is away: `open` lets everybody through, `closed` nobody
 */
export function limit(
  name: string,
  { limit: most, windowMs, whenAway }: { readonly limit: number; readonly windowMs: number; readonly whenAway: "open" | "closed" },
): Kind<LimitOf> {
  checkName(name);
  checkWhole(name, "limit", most, [1, LIMIT_MAX]);
  checkWhole(name, "windowMs", windowMs, [WINDOW_MS_MIN, WINDOW_MS_MAX], "whole milliseconds");
  checkChoice(name, "whenAway", whenAway, "open", "closed");
  // Counts of another window are of no use to this one.
  const placeOf = (key: string): string => `${full(name, key)}/${windowMs}`;
  return {
    name,
    loss: "cache",
    open({ engine, guard }) {
      const isOpen = whenAway === "open";
      const inUseWhenAway: InUse = { used: 0, resetMs: isOpen ? 0 : windowMs };
      const takenWhenAway = { ...inUseWhenAway, isTaken: isOpen, isAway: true };
      return {
        async take(key, amount = 1) {
          checkWhole(name, "amount", amount, [1, Number.MAX_SAFE_INTEGER]);
          const place = placeOf(key);
          return guard("take", takenWhenAway, async () => ({ ...(await engine.take(place, amount, most, windowMs)), isAway: false }));
        },
        async look(key) {
          const place = placeOf(key);
          return guard("look", inUseWhenAway, async () => {
            const { used, resetMs } = await engine.take(place, 0, most, windowMs);
            return { used, resetMs };
          });
        },
        async clear(...keys) {
          checkTexts(name, "key", keys);
          const places = keys.map(placeOf);
          return guard("clear", undefined, () => engine.clear(places));
        },
      };
    },
  };
}

/** A set of names a key. */
export type SetOf = {
  /** Each for the kind's time to live from now. */
  add(key: string, ...members: readonly string[]): Promise<void>;
  remove(key: string, ...members: readonly string[]): Promise<void>;
  has(key: string, member: string): Promise<boolean>;
  /** At most `limit` of them, in no order. */
  members(key: string, limit?: number): Promise<string[]>;
};

/** Sets whose members each live for `ttlMs`. */
export function memberSet(name: string, timed: Timed): Kind<SetOf> {
  checkName(name);
  checkTimed(name, timed);
  const { loss, ttlMs } = timed;
  return {
    name,
    loss,
    open: ({ engine, guard }) => ({
      async add(key, ...members) {
        checkTexts(name, "member", members);
        const set = full(name, key);
        return guard("addMembers", undefined, () => engine.addMembers(set, members, ttlMs));
      },
      async remove(key, ...members) {
        checkTexts(name, "member", members);
        const set = full(name, key);
        return guard("removeMembers", undefined, () => engine.removeMembers(set, members));
      },
      async has(key, member) {
        checkText(name, "member", member);
        const set = full(name, key);
        return guard("hasMember", false, () => engine.hasMember(set, member));
      },
      async members(key, most = AT_ONCE_MAX) {
        checkCount(name, most);
        const set = full(name, key);
        return guard("members", [], () => engine.members(set, most));
      },
    }),
  };
}

/** Names by score a key. */
export type FeedOf = {
  /** A member has one score, the last one that was added. */
  add(key: string, ...items: readonly FeedItem[]): Promise<void>;
  remove(key: string, ...members: readonly string[]): Promise<void>;
  /** At most `limit` items, the highest first; those that come after `after`, which is the last of a page, be it still there or not. */
  items(key: string, limit: number, after?: FeedItem): Promise<FeedItem[]>;
};

/** Feeds of which the `keep` highest items stay, for `ttlMs` after the last addition. */
export function feed(name: string, { keep, ...timed }: Timed & { readonly keep: number }): Kind<FeedOf> {
  checkName(name);
  checkTimed(name, timed);
  checkWhole(name, "keep", keep, [1, AT_ONCE_MAX]);
  const { loss, ttlMs } = timed;
  const checkItems = (items: readonly FeedItem[]): void => {
    checkTexts(
      name,
      "member",
      items.map(({ member }) => member),
    );
    const odd = items.find(({ score }) => !Number.isFinite(score));
    if (odd !== undefined) throw new RangeError(`${name}: \`score\` is ${odd.score}; it must be a finite number`);
  };
  return {
    name,
    loss,
    open: ({ engine, guard }) => ({
      async add(key, ...items) {
        checkItems(items);
        const place = full(name, key);
        return guard("addItems", undefined, () => engine.addItems(place, items, keep, ttlMs));
      },
      async remove(key, ...members) {
        checkTexts(name, "member", members);
        const place = full(name, key);
        return guard("removeItems", undefined, () => engine.removeItems(place, members));
      },
      async items(key, most, after) {
        checkCount(name, most);
        if (after !== undefined) checkItems([after]);
        const place = full(name, key);
        return guard("items", [], () => engine.items(place, most, after));
      },
    }),
  };
}
