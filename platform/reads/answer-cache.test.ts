import { randomUUID } from "node:crypto";
import { clone, create, type DescMethodUnary, getOption, ScalarType, setExtension } from "@bufbuild/protobuf";
import { durationFromMs, MethodDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import {
  type Card,
  CardSchema,
  CardsService,
  GetCardRequestSchema,
  GetOwnCardRequestSchema,
  ListCardsResponseSchema,
} from "#contracts/polis/cardtest/v1/cardtest_pb.ts";
import {
  AccessSchema,
  CacheSchema,
  type Method,
  Method_Idempotency,
  method as methodOption,
} from "#contracts/polis/options/v1/options_pb.ts";
import { type Caller, nobody, userCaller } from "#platform/access/caller.ts";
import { type MadeField, madeType } from "#platform/contract/made-type.testing.ts";
import { type KvEngine, KvUnavailable } from "#platform/kv/engine.ts";
import { createKv } from "#platform/kv/kv.ts";
import { postgresEngine } from "#platform/kv/postgres-engine.ts";
import { isRedisThere, openTestRedis, redisBehindLine } from "#platform/kv/redis.testing.ts";
import { testLog } from "#platform/postgres/database.testing.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { AnswerCache } from "#platform/reads/answer-cache.ts";
import { type Between, cardsService } from "#platform/reads/cards/cards.testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { operation } from "#platform/writes/definitions.ts";

let between: Between;
const made: string[] = [];
const services = await testServices(
  cardsService(async (name) => {
    made.push(name);
    await between(name);
  }),
);
/** Two processes beside each other. */
const [one, other] = [services, await services.copy()];
const [ada, ben] = [userCaller(randomUUID()), userCaller(randomUUID())];
const cards = (process = one, caller: typeof ada | typeof nobody = ada) => process.client(CardsService, caller);
let cardId: string;

beforeEach(() => {
  cardId = randomUUID();
  between = async () => {};
  made.length = 0;
});
const put = (text: string, process = one) => cards(process).putCard({ cardId, text });

const kvDatabase = services.database("kv");
const inPostgres = postgresEngine(kvDatabase, "passing");
let caches = 0;
/** A cache of one method by itself, in which there is nothing yet. */
function cacheOf(method: DescMethodUnary, passing: KvEngine = inPostgres, service = `cachetest${++caches}`) {
  const metrics = new Metrics();
  const kv = createKv({ kept: postgresEngine(kvDatabase, "kept"), passing, copies: undefined, metrics });
  return { cache: new AnswerCache({ service, methods: [method], kv, metrics, log: testLog }), metrics };
}

/** For what is in the store, so much time passes. */
const pass = (ms: number) =>
  kvDatabase.query({ text: "UPDATE passing_values SET expires_at = expires_at - $1::float8 * interval '1 ms'", values: [ms] });

/** Holds the next answer where it is made, after it was read; resolves once it is held, with what lets it go on. */
function holdNext(): Promise<() => void> {
  const { promise: opened, resolve: open } = Promise.withResolvers<void>();
  return new Promise((resolve) => {
    between = () => {
      between = async () => {};
      resolve(open);
      return opened;
    };
  });
}

describe("an answer that the contract lets be cached", () => {
  test("is made once, for everybody where it is public, in whatever process", async () => {
    await put("a");
    expect(await cards().getCard({ cardId })).toMatchObject({ text: "a" });
    expect(await cards(one, nobody).getCard({ cardId })).toMatchObject({ text: "a" });
    expect(await cards(other, ben).getCard({ cardId })).toMatchObject({ text: "a" });
    expect(made).toEqual(["GetCard"]);
  });

  test("is made once at a time, however many ask at once", async () => {
    await put("a");
    const held = holdNext();
    const first = cards().getCard({ cardId });
    const goOn = await held;
    const rest = Array.from({ length: 50 }, () => cards().getCard({ cardId }));
    // What was asked before has come as far as it can once this is answered.
    for (let n = 0; n < 5; n++) await cards().listCards({ startsWith: randomUUID() });
    goOn();
    for (const { text } of await Promise.all([first, ...rest])) expect(text).toBe("a");
    expect(made.filter((name) => name === "GetCard")).toHaveLength(1);
  });

  test("is made for the others where the one for whom it was made has given up", async () => {
    await put("a");
    const [release, held] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    // As many as read at once: who comes after them waits.
    between = () => {
      if (made.length === 2) held.resolve();
      return release.promise;
    };
    const before = [cards().listCards({ startsWith: "1" }), cards().listCards({ startsWith: "2" })];
    await held.promise;
    const giveUp = new AbortController();
    const first = cards()
      .getCard({ cardId }, { signal: giveUp.signal })
      .catch((error: { status: string }) => error.status);
    const second = cards().getCard({ cardId });
    // By then it waits for its turn.
    for (let n = 0; n < 5; n++) await cards().putCard({ cardId: randomUUID(), text: "another" });
    giveUp.abort();
    expect(await first).toBe("CANCELLED");
    release.resolve();
    expect((await second).text).toBe("a");
    await Promise.all(before);
  });

  test("is never another caller's where it isn't public", async () => {
    await put("a");
    for (const process of [one, other, one])
      for (const caller of [ada, ben])
        expect(await cards(process, caller).getOwnCard({ cardId })).toMatchObject({ reader: `user:${caller.userId}` });
    expect(made).toEqual(["GetOwnCard", "GetOwnCard"]);
    await expect(cards(one, nobody).getOwnCard({ cardId })).rejects.toMatchObject({ status: "UNAUTHENTICATED" });
  });

  test("is one for each request", async () => {
    await put("a");
    const all = await cards().listCards({ startsWith: cardId });
    expect([all.cards.length, (await cards().listCards({ startsWith: `${cardId}x` })).cards.length]).toEqual([1, 0]);
    expect((await cards().listCards({ startsWith: cardId })).cards).toHaveLength(1);
    expect(made).toEqual(["ListCards", "ListCards"]);
  });

  test("is over after its time", async () => {
    const { getOwnCard: method } = CardsService.method;
    const { cache } = cacheOf(method);
    const make = vi.fn(async () => create(CardSchema, { id: cardId }));
    const ask = () => cache.answer(method, create(GetOwnCardRequestSchema, { cardId }), ada, make);
    await ask();
    await pass(50_000);
    await ask();
    expect(make).toHaveBeenCalledTimes(1);
    await pass(10_000);
    await ask();
    expect(make).toHaveBeenCalledTimes(2);
  });

  test("is kept in Redis where there is one, and else in PostgreSQL", async () => {
    await put("a");
    await cards().getCard({ cardId });
    const kept = await kvDatabase.query({ text: "SELECT FROM passing_values WHERE key LIKE 'cardtest.%' LIMIT 1" });
    expect(kept.rowCount).toBe(isRedisThere ? 0 : 1);
  });

  test("is made anew for everybody where it is larger than 64 KiB", async () => {
    for (const [kib, times] of [
      [63, 1],
      [64, 2],
    ] as const) {
      made.length = 0;
      await put("a".repeat(kib * 1024));
      for (let n = 0; n < 2; n++) expect((await cards().getCard({ cardId })).text).toHaveLength(kib * 1024);
      expect(made).toHaveLength(times);
    }
  });

  test("isn't kept where there is none", async () => {
    await expect(cards().getCard({ cardId })).rejects.toMatchObject({ status: "NOT_FOUND" });
    await expect(cards().getCard({ cardId })).rejects.toMatchObject({ status: "NOT_FOUND" });
    await put("there now");
    expect((await cards().getCard({ cardId })).text).toBe("there now");
  });

  test("is nobody's to change", async () => {
    await put("a");
    const mine = await cards().getCard({ cardId });
    mine.text = "changed";
    expect((await cards().getCard({ cardId })).text).toBe("a");
  });
});

describe("a change", () => {
  const answers = async (process: typeof one) => [
    (await cards(process).getCard({ cardId })).text,
    (await cards(process).getOwnCard({ cardId })).text,
    (await cards(process).listCards({ startsWith: cardId })).cards[0]?.text,
  ];

  test("is seen by who made it with its answer, and by others in that process", async () => {
    await put("old");
    expect(await answers(one)).toEqual(["old", "old", "old"]);
    for (let n = 0; n < 20; n++) {
      await put(`${n}`);
      expect(await answers(one)).toEqual([`${n}`, `${n}`, `${n}`]);
    }
  });

  test("is seen with however many others it is made, and beside one that the database refuses", async () => {
    const ids = Array.from({ length: 700 }, () => randomUUID());
    const put = (text: string) => Promise.allSettled(ids.map((id, n) => cards().putCard({ cardId: id, text: n === 3 ? "refused" : text })));
    await put("old");
    const texts = () => Promise.all(ids.map(async (id, n) => (n === 3 ? "" : (await cards().getOwnCard({ cardId: id })).text)));
    expect(new Set(await texts())).toEqual(new Set(["old", ""]));
    expect((await put("new")).filter(({ status }) => status === "rejected")).toHaveLength(1);
    expect(new Set(await texts())).toEqual(new Set(["new", ""]));
  });

  test("is seen by who asks after it, though an answer of before it is still being made for another", async () => {
    await put("old");
    const held = holdNext();
    const reading = cards().getOwnCard({ cardId });
    const goOn = await held;
    await put("new", other);
    expect((await cards().getOwnCard({ cardId })).text).toBe("new");
    goOn();
    expect((await reading).text).toBe("old");
  });

  test("is seen in another process at once where the answer is the caller's, and within moments where it is public", async () => {
    await put("old");
    expect(await answers(other)).toEqual(["old", "old", "old"]);
    await put("new", one);
    expect((await cards(other).getOwnCard({ cardId })).text).toBe("new");
    await vi.waitFor(async () => expect(await answers(other)).toEqual(["new", "new", "new"]), { timeout: 5_000 });
  });

  test("leaves other groups' answers as they are", async () => {
    await put("a");
    const first = cardId;
    cardId = randomUUID();
    await put("b");
    await cards().getOwnCard({ cardId: first });
    await put("c");
    await cards(other).getOwnCard({ cardId: first });
    expect(made).toEqual(["GetOwnCard"]);
  });

  test.each(["GetCard", "GetOwnCard"] as const)("during which %s was read leaves no answer of before it", async (name) => {
    const read = async (process = one) =>
      (await (name === "GetCard" ? cards(process).getCard({ cardId }) : cards(process).getOwnCard({ cardId }))).text;
    await put("old");
    const held = holdNext();
    const reading = read();
    const goOn = await held;
    await put("new");
    goOn();
    expect(await reading).toBe("old");
    expect([await read(), await read(other)]).toEqual(["new", "new"]);
  });
});

describe("requests are told apart", () => {
  const texts: MadeField[] = ["a", "b"].map((name) => ({ name, of: ScalarType.STRING }));
  const either: MadeField[] = [{ name: "a", of: ScalarType.STRING, as: "optional" }];
  const number: MadeField[] = [{ name: "a", of: ScalarType.DOUBLE }];
  test.each([
    ["whose fields run together", texts, { a: "12", b: "3" }, { a: "1", b: "23" }],
    ["where one says nothing, and the other a word for that", either, {}, { a: "undefined" }],
    ["by the sign of a zero", number, { a: 0 }, { a: -0 }],
  ])("%s", async (_, fields, ...requests) => {
    const method = { ...CardsService.method.listCards, input: madeType(fields) };
    const { cache } = cacheOf(method);
    const make = vi.fn(async () => create(ListCardsResponseSchema));
    for (const request of [...requests, ...requests]) await cache.answer(method, create(method.input, request), nobody, make);
    expect(make).toHaveBeenCalledTimes(2);
  });
});

/** One process by itself, in which no time passes unless said so. */
describe("near a process, what is public", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["performance"] }));
  afterEach(() => void vi.useRealTimers());

  const { getCard: method } = CardsService.method;
  /** Of the 32 MiB that there are, three of these take 30: as their own key and their group's. */
  const large = (name: string) => name.padEnd(5 * 1024 * 1024, "-");
  const open = () => {
    const { cache, metrics } = cacheOf(method);
    const ask = async (name: string, make = async () => {}) => {
      await cache.answer(method, create(GetCardRequestSchema, { cardId: large(name) }), nobody, async () => {
        await make();
        return create(CardSchema, { text: name });
      });
    };
    const forget = (name: string) => cache.forget([{ method, group: large(name) }]);
    const nearCount = async () => Number(/from="near"\} (\d+)/.exec(await metrics.text())?.[1]);
    /** Which of these are there. */
    const near = async (...names: string[]) => {
      const found: string[] = [];
      for (const name of names) {
        const before = await nearCount();
        await ask(name);
        if ((await nearCount()) > before) found.push(name);
      }
      return found;
    };
    return { ask, forget, near };
  };

  test("gives way to what is asked for later, once it is too much", async () => {
    const { ask, near } = open();
    for (const name of ["a", "b", "c"]) await ask(name);
    expect(await near("a", "b", "c")).toEqual(["a", "b", "c"]);
    await ask("d");
    expect(await near("d", "c", "b", "a")).toEqual(["d", "c", "b"]);
  });

  test("takes its room once, however often it comes anew", async () => {
    const { ask, near } = open();
    await ask("a");
    vi.advanceTimersByTime(1_000);
    for (const name of ["a", "b", "c"]) await ask(name);
    expect(await near("a", "b", "c")).toEqual(["a", "b", "c"]);
  });

  test("leaves its room when it is forgotten", async () => {
    const { ask, forget, near } = open();
    await ask("a");
    await forget("a");
    for (const name of ["a", "b", "c"]) await ask(name);
    expect(await near("a", "b", "c")).toEqual(["a", "b", "c"]);
  });

  test("takes no room where it was forgotten while it was made", async () => {
    const { ask, forget, near } = open();
    await ask("a", () => forget("a"));
    for (const name of ["a", "b", "c"]) await ask(name);
    expect(await near("a", "b", "c")).toEqual(["a", "b", "c"]);
  });
});

/** Two processes, of which one has an answer's words changed by a store that the test plays. */
describe("what a change couldn't have forgotten at once", () => {
  const { getOwnCard: method } = CardsService.method;
  const away: KvEngine["delete"] = () => Promise.reject(new KvUnavailable(undefined));
  let changeWords: KvEngine["delete"];
  /** The card as the database has it. */
  let text: string;
  beforeEach(() => {
    changeWords = inPostgres.delete;
    text = "old";
  });

  const processes = () => {
    const service = `cachetest${++caches}`;
    const { cache: writer } = cacheOf(method, { ...inPostgres, delete: (keys) => changeWords(keys) }, service);
    const { cache: reader } = cacheOf(method, inPostgres, service);
    const read = async (cache: AnswerCache, id = cardId) =>
      ((await cache.answer(method, create(GetOwnCardRequestSchema, { cardId: id }), ada, async () => create(CardSchema, { text }))) as Card)
        .text;
    return {
      read: (id?: string) => read(writer, id),
      readElsewhere: (id?: string) => read(reader, id),
      forget: (...ids: string[]) => writer.forget(ids.map((group) => ({ method, group }))),
    };
  };

  test("isn't taken for forgotten when an earlier change's word comes that it is", async () => {
    const { read, readElsewhere, forget } = processes();
    const [reached, opened] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    changeWords = async (keys) => {
      await inPostgres.delete(keys);
      reached.resolve();
      await opened.promise;
    };
    const forgetting = forget(cardId);
    await reached.promise;
    expect(await readElsewhere()).toBe("old");
    text = "new";
    changeWords = away;
    await forget(cardId);
    opened.resolve();
    await forgetting;
    changeWords = inPostgres.delete;
    expect(await read()).toBe("new");
  });

  test("is forgotten before it is read, once for all who read at once", async () => {
    const { read, readElsewhere, forget } = processes();
    const ids = [cardId, randomUUID(), randomUUID()];
    for (const id of ids) await read(id);
    text = "new";
    changeWords = away;
    await forget(...ids);
    const changed: number[] = [];
    changeWords = (keys) => {
      changed.push(keys.length);
      return inPostgres.delete(keys);
    };
    expect(new Set(await Promise.all(ids.flatMap((id) => [read(id), read(id), read(id)])))).toEqual(new Set(["new"]));
    expect(changed).toEqual([3]);
    for (const id of ids) expect(await readElsewhere(id)).toBe("new");
  });

  test("is forgotten with what changes next, for others", async () => {
    const { read, readElsewhere, forget } = processes();
    await read();
    text = "new";
    changeWords = away;
    await forget(cardId);
    expect(await readElsewhere()).toBe("old");
    changeWords = inPostgres.delete;
    await forget(randomUUID());
    expect(await readElsewhere()).toBe("new");
  });

  test("is no longer known where it is too much: then nothing is read that is kept, until none of it can be there", async () => {
    vi.useFakeTimers({ toFake: ["performance"] });
    onTestFinished(() => void vi.useRealTimers());
    const { read, forget } = processes();
    const DAY = 24 * 3_600_000;
    await read();
    text = "new";
    changeWords = away;
    await forget(cardId, ...Array.from({ length: 100_000 }, (_, n) => String(n)));
    changeWords = inPostgres.delete;
    expect(await read()).toBe("new");
    vi.advanceTimersByTime(DAY - 1);
    text = "newer";
    expect(await read()).toBe("newer");
    vi.advanceTimersByTime(1);
    await pass(DAY);
    expect(await read()).toBe("newer");
    text = "newest";
    expect(await read()).toBe("newer");
  });
});

describe.skipIf(!isRedisThere)("over a Redis that may be away", () => {
  const { getOwnCard: method } = CardsService.method;
  const open = async () => {
    const { connection, line } = await redisBehindLine();
    const redis = await openTestRedis(connection);
    const { cache } = cacheOf(method, redis);
    const make = vi.fn(async () => create(CardSchema, { id: cardId }));
    const ask = (caller: Caller = ada) => cache.answer(method, create(GetOwnCardRequestSchema, { cardId }), caller, make);
    return { cache, make, ask, line, redis };
  };

  test("each answer is made as if there were no cache", async () => {
    const { line, ask, make, cache } = await open();
    line("cut");
    for (let n = 0; n < 3; n++) await ask();
    expect(make).toHaveBeenCalledTimes(3);
    await expect(cache.forget([{ method, group: "" }])).resolves.toBeUndefined();
  });

  test("what was to be forgotten meanwhile isn't read afterwards", async () => {
    const { line, ask, make, cache, redis } = await open();
    await ask();
    line("cut");
    await cache.forget([{ method, group: cardId }]);
    line("open");
    await vi.waitFor(() => redis.ask(), { timeout: 10_000 });
    await ask();
    await ask();
    expect(make).toHaveBeenCalledTimes(2);
  });

  test("a user with other rights has other answers", async () => {
    const { ask, make } = await open();
    await ask(userCaller(ada.userId));
    await ask(userCaller(ada.userId, { roles: ["staff"] }));
    await ask(userCaller(ada.userId, { secondFactor: true }));
    await ask(userCaller(ada.userId));
    expect(make).toHaveBeenCalledTimes(3);
  });
});

test.each<[string, Partial<Method>, string]>([
  ["without a `ttl`", { cache: create(CacheSchema) }, "its `ttl` must be from a millisecond to a day"],
  [
    "for longer than a day",
    { cache: create(CacheSchema, { ttl: durationFromMs(24 * 3_600_000 + 1) }) },
    "its `ttl` must be from a millisecond to a day",
  ],
  ["of a write", { idempotency: Method_Idempotency.KEYED }, "is for reads"],
  ["of what is sensitive", { sensitive: true }, "what is sensitive is made anew for everybody who asks"],
  [
    "of an owner's, for everybody",
    { access: create(AccessSchema, { roles: ["user"], owner: "card_id" }) },
    "what belongs to an `owner` isn't the same for everybody",
  ],
])("a contract whose word on its cache can't be kept isn't served: %s", (_, said, fault) => {
  expect(() => cacheOf(saying(CardsService.method.getCard, said))).toThrow(`CardsService/GetCard: \`cache\`: ${fault}`);
});

test("a contract whose `group` is no field of the request isn't served, and the method and the option are named", () => {
  const cache = create(CacheSchema, { ttl: durationFromMs(1_000), group: "nope" });
  expect(() => cacheOf(saying(CardsService.method.getCard, { cache }))).toThrow(
    "CardsService/GetCard: `cache.group`: `nope` is no field of polis.cardtest.v1.GetCardRequest",
  );
});

test("a service doesn't start whose contract caches what no query answers", async () => {
  const { getCard } = CardsService.method;
  const definition = cardsService(async () => {});
  const operations = { ...definition.operations, getCard: operation(getCard, { write: () => create(CardSchema) }) };
  await expect(testServices({ ...definition, operations })).rejects.toThrow("CardsService/GetCard: `cache`: is for what a `query` answers");
});

/** The method, whose contract says this as well. */
function saying(method: DescMethodUnary, said: Partial<Method>): DescMethodUnary {
  const proto = clone(MethodDescriptorProtoSchema, method.proto);
  setExtension(proto.options!, methodOption, { ...getOption(method, methodOption), ...said });
  return { ...method, proto };
}
