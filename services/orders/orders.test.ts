import { randomUUID } from "node:crypto";
import { fromBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { Order_Status, OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { PaymentFailedSchema, PaymentSucceededSchema } from "#contracts/polis/payments/v1/events_pb.ts";
import { userCaller } from "#platform/access/caller.ts";

import { record } from "#platform/events/event-log.testing.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { ordersService } from "./service.ts";

const services = await testServices(ordersService);
const heard = await services.hear();
await services.begin();
const orders = (userId: string = randomUUID()) => services.client(OrdersService, userCaller(userId));
const { NEW, FINISHED, CANCELED } = Order_Status;

const paid = (orderId: string) => record(PaymentSucceededSchema, { orderId, userId: randomUUID() });
const unpaid = (orderId: string) => record(PaymentFailedSchema, { orderId, userId: randomUUID(), reason: "insufficient_funds" });

/** Every page from the first on, `between` run before each next one. */
async function pages(client: ReturnType<typeof orders>, pageSize: number, between: () => Promise<unknown> = async () => {}) {
  const ids: string[][] = [];
  for (let pageToken = ""; ; ) {
    const page = await client.listOrders({ pageSize, pageToken });
    ids.push(page.orders.map(({ id }) => id));
    pageToken = page.nextPageToken;
    if (pageToken === "") return ids;
    await between();
  }
}

test("an order and its event are one: what is taken, asks for its payment, once however often its key is repeated", async () => {
  const [userId, key] = [randomUUID(), randomUUID()];
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => orders(userId).createOrder({ amount: 7n, description: "x" }, { idempotencyKey: key })),
  );
  for (const answer of answers) expect(answer).toEqual(answers[0]);
  expect(answers[0]).toMatchObject({ userId, amount: 7n, currency: "RUB", status: NEW });
  await services.quiet();
  const asked = heard
    .filter(({ type }) => type === OrderCreatedSchema.typeName)
    .map((each) => fromBinary(OrderCreatedSchema, each.payload).data)
    .filter((data) => data?.userId === userId);
  expect(asked).toMatchObject([{ orderId: answers[0]?.id, amount: 7n, currency: "RUB", description: "x" }]);
});

test("an order ends as its payment did, once, whatever comes again; the other end after the first changes nothing", async () => {
  const client = orders();
  const [a, b] = [await client.createOrder({ amount: 1n }), await client.createOrder({ amount: 1n })];
  await services.eventLog.publish([paid(a.id), paid(a.id), unpaid(b.id), unpaid(b.id), unpaid(a.id)]);
  await services.quiet();
  expect(await client.getOrder({ orderId: a.id })).toMatchObject({ status: FINISHED });
  expect(await client.getOrder({ orderId: b.id })).toMatchObject({ status: CANCELED, reason: "insufficient_funds" });
  const { rows } = await services.database("orders").query({ text: "SELECT cause FROM dead_letters WHERE key = $1", values: [a.id] });
  expect(rows).toEqual([{ cause: expect.stringContaining("settled otherwise") }]);
});

test("a list holds the caller's orders alone, newest first, of one status where one is asked for", async () => {
  const [client, stranger] = [orders(), orders()];
  const made: string[] = [];
  for (let i = 0; i < 4; i += 1) {
    made.unshift((await client.createOrder({ amount: 1n })).id);
    await stranger.createOrder({ amount: 1n });
  }
  const [fourth, third, second, first] = made as [string, string, string, string];
  await services.eventLog.publish([paid(first), unpaid(third)]);
  await services.quiet();
  const ids = async (request: Parameters<typeof client.listOrders>[0]) => (await client.listOrders(request)).orders.map(({ id }) => id);
  expect(await ids({})).toEqual([fourth, third, second, first]);
  expect(await ids({ status: NEW })).toEqual([fourth, second]);
  expect(await ids({ status: FINISHED })).toEqual([first]);
  expect(await ids({ status: CANCELED })).toEqual([third]);
  expect((await stranger.listOrders({ status: FINISHED })).orders).toEqual([]);
  expect((await orders().listOrders({})).orders).toEqual([]);
});

test("pages neither repeat nor leave out an order, though others come in between", async () => {
  const client = orders();
  const made: string[] = [];
  for (let i = 0; i < 10; i += 1) made.unshift((await client.createOrder({ amount: 1n })).id);
  expect(await pages(client, 5)).toEqual([made.slice(0, 5), made.slice(5)]);
  const seen = await pages(client, 3, () => Promise.all([client.createOrder({ amount: 2n }), client.createOrder({ amount: 2n })]));
  expect(seen.map(({ length }) => length)).toEqual([3, 3, 3, 1]);
  expect(seen.flat()).toEqual(made);
});

test("a page is of fifty unless said, and the last one names no next", async () => {
  const client = orders();
  await Promise.all(Array.from({ length: 51 }, () => client.createOrder({ amount: 1n })));
  expect((await pages(client, 0)).map(({ length }) => length)).toEqual([50, 1]);
  expect((await pages(client, 51)).map(({ length }) => length)).toEqual([51]);
});

test("another's order is not there, nor is one that never was; nobody is asked who they are", async () => {
  const userId = randomUUID();
  const { id } = await orders(userId).createOrder({ amount: 1n });
  expect(await orders(userId.toUpperCase()).getOrder({ orderId: id.toUpperCase() })).toMatchObject({ id, userId });
  const notThere = { status: "NOT_FOUND", code: "not_found" };
  await expect(orders().getOrder({ orderId: id })).rejects.toMatchObject(notThere);
  await expect(orders(userId).getOrder({ orderId: randomUUID() })).rejects.toMatchObject(notThere);
  const nobody = services.client(OrdersService, { kind: "nobody" });
  await expect(nobody.getOrder({ orderId: id })).rejects.toMatchObject({ status: "UNAUTHENTICATED" });
});
