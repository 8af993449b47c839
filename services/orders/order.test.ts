import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { CreateOrderRequestSchema, Order_Status } from "#contracts/polis/orders/v1/orders_pb.ts";
import { cancel, finish, place } from "./order.ts";

const facts = { id: "0190a1b2-0000-7000-8000-000000000001", userId: "11111111-1111-4111-8111-111111111111", createdAt: timestampFromMs(0) };
const order = place(create(CreateOrderRequestSchema, { amount: 5n, description: "x" }), facts);

test("a new order is NEW and in roubles unless another currency is asked for", () => {
  expect(order).toMatchObject({ status: Order_Status.NEW, currency: "RUB", amount: 5n });
  expect(place(create(CreateOrderRequestSchema, { amount: 5n, currency: "USD" }), facts).currency).toBe("USD");
});

test("it ends once, as paid or as cancelled with the reason", () => {
  expect(finish(order).status).toBe(Order_Status.FINISHED);
  expect(cancel(order, "insufficient_funds")).toMatchObject({ status: Order_Status.CANCELED, reason: "insufficient_funds" });
});

test("a repeat of its end changes nothing", () => {
  const finished = finish(order);
  expect(finish(finished)).toBe(finished);
});

test("the other end after the first is a fault, not a change of mind", () => {
  expect(() => cancel(finish(order), "insufficient_funds")).toThrow(/settled otherwise/);
  expect(() => finish(cancel(order, "insufficient_funds"))).toThrow(/settled otherwise/);
});
