import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { CardSchema, CardsService, GetOwnCardRequestSchema } from "#contracts/polis/cardtest/v1/cardtest_pb.ts";
import { type Caller, nobody, userCaller } from "#platform/access/caller.ts";
import { createKv } from "#platform/kv/kv.ts";
import { postgresEngine } from "#platform/kv/postgres-engine.ts";
import { isRedisThere, openTestRedis, redisBehindLine } from "#platform/kv/redis.testing.ts";
import { testLog } from "#platform/postgres/database.testing.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { AnswerCache } from "#platform/reads/answer-cache.ts";
import { type Between, cardsService } from "#platform/reads/cards/cards.testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

let between: Between;
const made: string[] = [];
const services = await testServices(
  cardsService(async (name) => {
    made.push(name);
    await between(name);
  }),
);
/** Two processes beside each other. */
const [one, other] = [services, services.copy()];
const [ada, ben] = [userCaller(randomUUID()), userCaller(randomUUID())];
const cards = (process = one, caller: typeof ada | typeof nobody = ada) => process.client(CardsService, caller);
let cardId: string;

beforeEach(() => {
  cardId = randomUUID();
  between = async () => {};
  made.length = 0;
});
const put = (text: string, process = one) => cards(process).putCard({ cardId, text });

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

describe.skipIf(!isRedisThere)("over a Redis that may be away", () => {
  const { getOwnCard: method } = CardsService.method;
  const open = async () => {
    const { connection, line } = await redisBehindLine();
    const redis = await openTestRedis(connection);
    const kv = createKv({ kept: postgresEngine(services.database("kv"), "kept"), passing: redis, copies: redis, metrics: new Metrics() });
    const cache = new AnswerCache({ service: "cardtest", methods: [method], kv, metrics: new Metrics(), log: testLog });
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

test("a contract whose word on its cache can't be kept isn't served", () => {
  const { putCard } = CardsService.method;
  expect(() => new AnswerCache({ service: "cardtest", methods: [putCard], kv: {} as never, metrics: new Metrics(), log: testLog })).toThrow(
    "CardsService/PutCard: `cache`: its `ttl` must be from a millisecond to a day",
  );
});
