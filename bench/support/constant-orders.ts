import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ListOrdersResponseSchema, OrderSchema, OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { uuidv7 } from "#platform/ids.ts";
import { defineEndpoint, type Endpoint, type Handlers } from "#platform/rpc/endpoint.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { passingTracer } from "#platform/telemetry/tracing.ts";
import { benchLog } from "./log.ts";

export const order = create(OrderSchema, {
  id: uuidv7(),
  userId: crypto.randomUUID(),
  amount: 1_000n,
  currency: "RUB",
  description: "Two tickets to the opera",
  createdAt: timestampFromMs(Date.now()),
});

/** Orders without a database: what remains of a call is the call. */
export const constantHandlers: Handlers<typeof OrdersService> = {
  createOrder: async () => order,
  getOrder: async () => order,
  listOrders: async () => create(ListOrdersResponseSchema, { orders: [order] }),
};

/** Their edge, with everything that a process gives it. */
export const ordersEndpoint = (): Endpoint =>
  defineEndpoint(OrdersService, constantHandlers, { metrics: new Metrics(), tracer: passingTracer, log: benchLog() });
