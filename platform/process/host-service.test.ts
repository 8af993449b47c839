import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { beforeEach, expect, test } from "vitest";
import { CardSchema, CardsService } from "#contracts/polis/cardtest/v1/cardtest_pb.ts";
import { ConformanceService } from "#contracts/polis/conformance/v1/conformance_pb.ts";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { ReportSchema } from "#contracts/polis/tasktest/v1/tasktest_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { consumer, on } from "#platform/events/define-consumer.ts";
import { record } from "#platform/events/event-log.testing.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { cardsService } from "#platform/reads/cards/cards.testing.ts";
import { query } from "#platform/reads/query.ts";
import type { Peers } from "#platform/rpc/client.ts";
import { task } from "#platform/tasks/define-task.ts";
import { findTask } from "#platform/tasks/stored-tasks.ts";
import { operation } from "#platform/writes/definitions.ts";

const { method } = CardsService;

/** What each part of the service does with its peers. */
let act: (where: string, peer: Peers) => Promise<unknown>;
const cards = {
  ...cardsService(async () => {}),
  operations: {
    ...cardsService(async () => {}).operations,
    listCards: query(method.listCards, async (_, { peer }) => void (await act("query", peer))),
    putCard: operation(method.putCard, {
      prepare: async (_, { peer }) => void (await act("operation", peer)),
      write: () => create(CardSchema),
    }),
  },
  consumers: {
    onOrderCreated: consumer(on(OrderCreatedSchema, { prepare: (_, { peer }) => act("consumer", peer), write() {} })),
  },
  tasks: { report: task(ReportSchema, { prepare: (_, { peer }) => act("task", peer) }) },
};
const services = await testServices(cards);
const early = await services.quiet().catch(({ message }: Error) => message);
await services.begin();
const database = services.database("cardtest");
beforeEach(() => database.query({ text: "TRUNCATE tasks, dead_letters" }));

const orderCreated = () =>
  record(OrderCreatedSchema, { orderId: randomUUID(), userId: randomUUID(), amount: 1n, currency: "RUB", description: "" });

test("what is to become quiet must have begun", () => {
  expect(early).toContain("await services.begin() first");
});

test("a peer that the manifest doesn't name isn't called, wherever a service calls it from", async () => {
  const told: string[] = [];
  act = async (where, peer) => {
    try {
      peer(ConformanceService);
    } catch (error) {
      told.push(`${where}: ${(error as Error).message}`);
    }
  };
  const client = services.client(CardsService, userCaller(randomUUID()));
  await client.listCards({}).catch(() => undefined);
  await client.putCard({ cardId: randomUUID() });
  await services.enqueue("cardtest", ReportSchema, {});
  await services.eventLog.publish([orderCreated()]);
  await services.quiet();
  const refusal = "cardtest calls polis.conformance.v1.ConformanceService, which its manifest doesn't name among its peers";
  expect(told.toSorted()).toEqual(["consumer", "operation", "query", "task"].map((where) => `${where}: ${refusal}`));
});

test("the cause of a task or an event that failed by a call says which call", async () => {
  act = async (_, peer) => peer(CardsService).putCard({ cardId: randomUUID() });
  const id = await services.enqueue("cardtest", ReportSchema, {});
  await services.eventLog.publish([orderCreated()]);
  await services.quiet();
  const cause = "CallError: polis.cardtest.v1.CardsService/PutCard: The caller may not do this.";
  expect(await findTask(database, id)).toMatchObject({ state: "FAILED", cause });
  expect((await database.query({ text: "SELECT cause FROM dead_letters" })).rows).toEqual([{ cause }]);
});
