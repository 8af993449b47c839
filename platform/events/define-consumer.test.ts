import { expect, expectTypeOf, test } from "vitest";
import { type OrderCreated_Data, OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { consumer, groupName, on } from "#platform/events/define-consumer.ts";
import { type Effect, effects } from "#platform/events/event-log.testing.ts";

test("a handler's parts know the event's data, what was prepared and what was locked", () => {
  const handler = on(OrderCreatedSchema, {
    prepare: async (data) => {
      expectTypeOf(data).toEqualTypeOf<OrderCreated_Data>();
      return { posted: data.amount };
    },
    lock: ({ orderId }) => effects.row(orderId),
    write(_tx, data, { prepared, locked }) {
      expectTypeOf(data.orderId).toEqualTypeOf<string>();
      expectTypeOf(prepared).toEqualTypeOf<{ posted: bigint }>();
      expectTypeOf(locked).toEqualTypeOf<Effect | undefined>();
    },
  });
  expect(consumer(handler).handlers).toEqual([handler]);
  expect(() => consumer(handler, handler)).toThrow("polis.orders.v1.OrderCreated is handled twice in one consumer");
  expect(() => consumer()).toThrow("at least one type of event");
});

test("a group is named after its service and consumer", () => {
  expect(groupName("payments", "onOrderCreated")).toBe("payments.on-order-created");
});
