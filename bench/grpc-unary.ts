import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client, credentials } from "@grpc/grpc-js";
import {
  type CreateOrderRequest,
  CreateOrderRequestSchema,
  type Order,
  OrderSchema,
  OrdersService,
} from "#contracts/polis/orders/v1/orders_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { callerTokens } from "#platform/access/caller-token.ts";
import { createClient } from "#platform/rpc/client.ts";
import { grpcTransport } from "#platform/rpc/grpc-transport.ts";
import type { Bench } from "./bench.ts";
import { keepCalling, measureHere } from "./support/calling.ts";
import { startChild } from "./support/child.ts";
import type { Ports } from "./support/grpc-servers.ts";
import { alternate, ratioFigure } from "./support/rounds.ts";

const ROUNDS = 7;
const ROUND_MS = 1_000;
const AT_ONCE = 64;
const request = { amount: 1_000n, currency: "RUB", description: "Two tickets to the opera" };

export const grpcUnary: Bench = {
  name: "grpc-unary",
  text: "a unary call to another process beside plain grpc-js with the same messages",
  async run({ parts, report }) {
    const secret = randomBytes(32).toString("hex");
    const servers = startChild<object, Ports>(join(import.meta.dirname, "support", "grpc-servers.ts"), [secret], parts);
    const ports = await servers.ask({});

    const transport = grpcTransport({ addresses: [`127.0.0.1:${ports.polis}`], tokens: callerTokens({ secrets: [secret] }) });
    parts.defer(() => transport.close());
    const polis = createClient(OrdersService, transport, { caller: userCaller(crypto.randomUUID()) });
    const raw = new Client(`127.0.0.1:${ports.raw}`, credentials.createInsecure());
    parts.defer(() => raw.close());

    const calls = {
      polis: (): Promise<Order> => polis.createOrder(request),
      raw: (): Promise<Order> =>
        new Promise((resolve, reject) => {
          const message = create(CreateOrderRequestSchema, request);
          raw.makeUnaryRequest<CreateOrderRequest, Order>(
            "/polis.orders.v1.OrdersService/CreateOrder",
            (value) => Buffer.from(toBinary(CreateOrderRequestSchema, value)),
            (bytes) => fromBinary(OrderSchema, bytes),
            message,
            (error, answer) => (answer === undefined ? reject(error) : resolve(answer)),
          );
        }),
    };
    for (const callers of [AT_ONCE, 1]) {
      const run = (call: () => Promise<Order>) => () => measureHere(undefined, () => keepCalling(callers, { ms: ROUND_MS }, call));
      const found = await alternate({ raw: run(calls.raw), polis: run(calls.polis) }, ROUNDS);
      report(
        ratioFigure({
          name: callers === 1 ? "gRPC unary, one at a time" : `gRPC unary, ${callers} at once`,
          unit: "calls/s",
          rounds: found.polis,
          beside: { name: "plain grpc-js", rounds: found.raw },
          goal: { of: "ratio", atLeast: 0.9 },
          note: "caller token, deadline, access, validation and metrics included, of which plain grpc-js has none; CPU is the client's",
        }),
      );
    }
  },
};
