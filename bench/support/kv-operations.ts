import { strict as assert } from "node:assert";
import { create, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { ThingSchema } from "#contracts/polis/resttest/v1/resttest_pb.ts";
import type { Loss } from "#platform/kv/engine.ts";
import { type Kind, type LimitOf, limit, type ValuesOf, values } from "#platform/kv/kinds.ts";
import type { Kv } from "#platform/kv/kv.ts";
import type { BenchContext } from "../bench.ts";
import { keepCalling, measureHere } from "./calling.ts";
import { alternate, type Round, ratioFigure } from "./rounds.ts";
import type { BenchServer } from "./server.ts";

const ROUNDS = 7;
const ROUND_MS = 300;
const CALLERS = 64;
const KEYS = 10_000;
const KEYS_AT_ONCE = 20;
/** Has no divisor in common with the number of keys, so that all of them have their turn. */
const STRIDE = 7_919;
export const TTL_MS = 3_600_000;
export const LIMIT = { limit: 1_000_000, windowMs: 60_000 };

export type Thing = MessageShape<typeof ThingSchema>;

/** What both sides do; the same is written again and again, so that it is always there to be compared with. */
export type KvOperations = {
  get(key: string): Promise<Thing | undefined>;
  getAll(keys: readonly string[]): Promise<(Thing | undefined)[]>;
  set(key: string, value: Thing): Promise<void>;
  compareAndSet(key: string, from: Thing, to: Thing): Promise<boolean>;
  take(key: string): Promise<{ readonly isTaken: boolean }>;
};

export const encode = (thing: Thing): Uint8Array => toBinary(ThingSchema, thing);
export const decode = (bytes: Uint8Array): Thing => fromBinary(ThingSchema, bytes);

const calls: Kind<LimitOf> = limit("bench.calls", { ...LIMIT, whenAway: "open" });
const kinds: { readonly [L in Loss]: Kind<ValuesOf<typeof ThingSchema>> } = {
  durable: values("bench.kept", ThingSchema, { loss: "durable", ttlMs: TTL_MS }),
  cache: values("bench.passing", ThingSchema, { loss: "cache", ttlMs: TTL_MS }),
};

/** Keys as an engine has them. */
export const thingKey = (loss: Loss, key: string): string => `${kinds[loss].name}:${key}`;
export const callsKey = (key: string): string => `${calls.name}:${key}/${LIMIT.windowMs}`;

/** Ours, as a service uses it. */
export const ourOperations = (kv: Kv, loss: Loss): KvOperations => ({ ...kv.of(kinds[loss]), take: (key) => kv.of(calls).take(key) });

const keys = Array.from({ length: KEYS }, (_, n) => String(n));
const things = new Map(
  keys.map((key) => [
    key,
    create(ThingSchema, { id: key, userId: crypto.randomUUID(), amount: 1_000n, currency: "RUB", description: "Two tickets to the opera" }),
  ]),
);

let last = 0;
function nextKey(): string {
  last = (last + STRIDE) % KEYS;
  return keys[last] as string;
}

const thing = (key: string): Thing => things.get(key) as Thing;

/** One call of each operation, which checks what it is answered. */
const calling: { readonly [O in keyof KvOperations]: (side: KvOperations) => Promise<void> } = {
  async get(side) {
    const key = nextKey();
    assert((await side.get(key))?.id === key);
  },
  async getAll(side) {
    const asked = Array.from({ length: KEYS_AT_ONCE }, nextKey);
    const found = await side.getAll(asked);
    assert(found.length === KEYS_AT_ONCE && found.at(-1)?.id === asked.at(-1));
  },
  async set(side) {
    const key = nextKey();
    await side.set(key, thing(key));
  },
  async compareAndSet(side) {
    const key = nextKey();
    assert(await side.compareAndSet(key, thing(key), thing(key)));
  },
  async take(side) {
    assert((await side.take(nextKey())).isTaken);
  },
};

/** All keys, before anything is measured. */
export async function fill(side: KvOperations): Promise<void> {
  for (let n = 0; n < KEYS; n += CALLERS) await Promise.all(keys.slice(n, n + CALLERS).map((key) => side.set(key, thing(key))));
}

/** A figure of each operation. */
export async function compare(options: {
  readonly operations: readonly (keyof KvOperations)[];
  /** Behind the operation's name. */
  readonly where: string;
  readonly ours: KvOperations;
  readonly client: { readonly name: string } & KvOperations;
  /** What works for both sides, where that is PostgreSQL. */
  readonly server?: BenchServer;
  readonly report: BenchContext["report"];
}): Promise<void> {
  const { operations, where, ours, client, server, report } = options;
  for (const operation of operations) {
    const run = (side: KvOperations) => (): Promise<Round> =>
      measureHere(server, () => keepCalling(CALLERS, { ms: ROUND_MS }, () => calling[operation](side)));
    const isRead = operation === "get" || operation === "getAll";
    const found = await alternate({ client: run(client), ours: run(ours) }, ROUNDS, isRead ? undefined : server?.tidy);
    report(
      ratioFigure({
        name: `${operation}${operation === "getAll" ? ` of ${KEYS_AT_ONCE}` : ""}, ${where}`,
        unit: "calls/s",
        rounds: found.ours,
        beside: { name: client.name, rounds: found.client },
        goal: { of: "ratio", atLeast: 0.8 },
        note: `${CALLERS} callers, ${KEYS} keys; ratios ${spread(found.ours, found.client)}`,
      }),
    );
  }
}

function spread(ours: readonly Round[], theirs: readonly Round[]): string {
  const ratios = ours.map(({ value }, n) => value / (theirs[n]?.value ?? Number.NaN));
  return `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`;
}
