import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { expect, test, vi } from "vitest";
import { CardSchema, CardsService } from "#contracts/polis/cardtest/v1/cardtest_pb.ts";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { ReportSchema } from "#contracts/polis/tasktest/v1/tasktest_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { secretsOf } from "#platform/access/secrets.ts";
import { systemClock } from "#platform/clock.ts";
import { wholeNumber } from "#platform/config/setting-types.ts";
import { setting } from "#platform/config/settings.ts";
import { consumer, on } from "#platform/events/define-consumer.ts";
import { record } from "#platform/events/event-log.testing.ts";
import { testDatabase, testLog } from "#platform/postgres/database.testing.ts";
import { openResources } from "#platform/process/resources.ts";
import { testServicesWith } from "#platform/process/services.testing.ts";
import { cardsService } from "#platform/reads/cards/cards.testing.ts";
import { query } from "#platform/reads/query.ts";
import { resource, type Use } from "#platform/resource.ts";
import { task } from "#platform/tasks/define-task.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { operation } from "#platform/writes/definitions.ts";

const { method } = CardsService;
const size = setting({ name: "CARDTEST_SIZE", type: wholeNumber(1, 9), default: 1, text: "how many there are" });
const counter = resource("cardtest.counter", {
  settings: { size },
  open: ({ settings }) => ({ size: settings.size, uses: [] as string[] }),
});
const stranger = resource("cardtest.stranger", { open: () => "never" });

const used = (use: Use, where: string): void => void use(counter).uses.push(where);
const definition = {
  ...cardsService(async () => {}),
  resources: [counter],
  operations: {
    ...cardsService(async () => {}).operations,
    getCard: query(method.getCard, async ({ cardId }, { use }) => create(CardSchema, { id: cardId, text: `${use(counter).size}` })),
    listCards: query(method.listCards, async (_, { use }) => void use(stranger)),
    putCard: operation(method.putCard, { prepare: async (_, { use }) => used(use, "operation"), write: () => create(CardSchema) }),
    getOwnCard: query(method.getOwnCard, async (_, { use }) => create(CardSchema, { text: use(counter).uses.toSorted().join(" ") })),
  },
  consumers: { onOrderCreated: consumer(on(OrderCreatedSchema, { prepare: async (_, { use }) => used(use, "consumer"), write() {} })) },
  tasks: { report: task(ReportSchema, { prepare: async (_, { use }) => used(use, "task") }) },
};
const services = await testServicesWith({ environment: { CARDTEST_SIZE: "7" } }, definition);
await services.begin();
const client = services.client(CardsService, userCaller(randomUUID()));
const secrets = secretsOf(["a secret of at least thirty-two characters"]);

test("a resource is opened with its settings, and used wherever a service works", async () => {
  expect((await client.getCard({ cardId: randomUUID() })).text).toBe("7");
  await client.putCard({ cardId: randomUUID() });
  await services.enqueue("cardtest", ReportSchema, {});
  const order = { orderId: randomUUID(), userId: randomUUID(), amount: 1n, currency: "RUB" };
  await services.eventLog.publish([record(OrderCreatedSchema, order)]);
  await services.quiet();
  expect((await client.getOwnCard({ cardId: randomUUID() })).text).toBe("consumer operation task");
});

test("a resource that the manifest doesn't name isn't used", async () => {
  const error = vi.spyOn(testLog, "error");
  await expect(client.listCards({})).rejects.toMatchObject({ status: "INTERNAL" });
  expect(JSON.stringify(error.mock.calls.flat().map((each) => String((each as { err?: Error }).err)))).toContain(
    "cardtest uses cardtest.stranger, which its manifest doesn't name among its resources",
  );
  error.mockRestore();
});

const open = async (...resources: Parameters<typeof openResources>[0]["resources"]) =>
  openResources(
    { name: "cardtest", resources },
    {
      settings: { "cardtest.counter": { size: 1 } },
      database: await testDatabase({ migrations: [] }),
      secrets,
      clock: systemClock,
      log: testLog,
      metrics: new Metrics(),
    },
  );

test("resources are closed in the opposite order, and those before one that can't be opened too", async () => {
  const ended: string[] = [];
  const each = (name: string) => resource(`cardtest.${name}`, { open: () => name, close: (handle) => void ended.push(handle) });
  const { use, close } = await open(each("a"), each("b"));
  expect(() => use(each("a"))).toThrow("cardtest.a");
  await close();
  expect(ended.splice(0)).toEqual(["b", "a"]);
  const broken = resource("cardtest.broken", { open: () => Promise.reject(new Error("no provider")) });
  await expect(open(each("a"), broken, each("b"))).rejects.toThrow("no provider");
  expect(ended).toEqual(["a"]);
});

test("a resource is its service's, and has a name of its own", async () => {
  await expect(open(resource("orders.counter", { open: () => 1 }))).rejects.toThrow("cardtest has the resource orders.counter");
  await expect(open(counter, counter)).rejects.toThrow("cardtest has the resource cardtest.counter twice");
});

test("what is answered one after another comes so, and ends with a no", async () => {
  const cards = await testServicesWith(
    {},
    cardsService(async () => {}),
  );
  const [one, two] = [randomUUID(), randomUUID()];
  const reader = cards.client(CardsService, userCaller(randomUUID()));
  await reader.putCard({ cardId: one, text: "first" });
  await reader.putCard({ cardId: two, text: "second" });
  const read: string[] = [];
  const reading = (async () => {
    for await (const card of reader.readCards({ cardIds: [one, two, randomUUID()] })) read.push(card.text);
  })();
  await expect(reading).rejects.toMatchObject({ code: "no_more_cards" });
  expect(read).toEqual(["first", "second"]);
});

test("a reader that goes ends what is answered to it", async () => {
  const asked: string[] = [];
  const cards = await testServicesWith(
    {},
    cardsService(async (name) => void asked.push(name)),
  );
  const id = randomUUID();
  const reader = cards.client(CardsService, userCaller(randomUUID()));
  await reader.putCard({ cardId: id, text: "x" });
  for await (const _ of reader.readCards({ cardIds: Array.from({ length: 50 }, () => id) })) break;
  await vi.waitFor(() => expect(asked.length).toBeLessThan(4));
});
