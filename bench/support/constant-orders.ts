import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Order, OrderSchema, OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
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

/** An order without a database: what remains of a call is the call. */
export const createOrder = async (): Promise<Order> => order;

/** Of the other methods none is called. */
const handlers = Object.fromEntries(OrdersService.methods.map(({ localName }) => [localName, createOrder]));

/** Its edge, with everything that a process gives it. */
export const ordersEndpoint = (): Endpoint =>
  defineEndpoint(OrdersService, handlers as unknown as Handlers<typeof OrdersService>, {
    metrics: new Metrics(),
    tracer: passingTracer,
    log: benchLog(),
  });
