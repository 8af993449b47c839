import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type CallOptions, Client, credentials, Metadata } from "@grpc/grpc-js";
import {
  type CreateOrderRequest,
  CreateOrderRequestSchema,
  type Order,
  OrderSchema,
  OrdersService,
} from "#contracts/polis/orders/v1/orders_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { callerTokens } from "#platform/access/caller-token.ts";
import { secretsOf } from "#platform/access/secrets.ts";
import { createClient } from "#platform/rpc/client.ts";
import { grpcTransport } from "#platform/rpc/grpc-transport.ts";
import type { Bench } from "./bench.ts";
import { keepCalling, measureHere } from "./support/calling.ts";
import { startChild } from "./support/child.ts";
import type { Ports } from "./support/grpc-servers.ts";
import { alternate, ratioFigure } from "./support/rounds.ts";

const ROUNDS = 7;
const ROUND_MS = 800;
const AT_ONCE = 64;
const TIMEOUT_MS = 15_000;
const request = { amount: 1_000n, currency: "RUB", description: "Two tickets to the opera" };

export const grpcUnary: Bench = {
  name: "grpc-unary",
  text: "a unary call to another process beside plain grpc-js with the same messages",
  async run({ parts, report }) {
    const secret = randomBytes(32).toString("hex");
    const servers = startChild<object, Ports>(join(import.meta.dirname, "support", "grpc-servers.ts"), [secret], parts);
    const ports = await servers.ask({});

    const tokens = callerTokens({ secrets: secretsOf([secret]) });
    const caller = userCaller(crypto.randomUUID());
    const transport = grpcTransport({ addresses: [`127.0.0.1:${ports.polis}`], tokens });
    parts.defer(() => transport.close());
    const polis = createClient(OrdersService, transport, { caller });
    const raw = new Client(`127.0.0.1:${ports.raw}`, credentials.createInsecure());
    parts.defer(() => raw.close());

    const rawCall = (metadata: Metadata, options: CallOptions): Promise<Order> =>
      new Promise((resolve, reject) => {
        raw.makeUnaryRequest<CreateOrderRequest, Order>(
          "/polis.orders.v1.OrdersService/CreateOrder",
          (value) => Buffer.from(toBinary(CreateOrderRequestSchema, value)),
          (bytes) => fromBinary(OrderSchema, bytes),
          create(CreateOrderRequestSchema, request),
          metadata,
          options,
          (error, answer) => (answer === undefined ? reject(error) : resolve(answer)),
        );
      });
    const withHeader = async (): Promise<Order> => {
      const metadata = new Metadata();
      metadata.set("authorization", `Bearer ${await tokens.sign(caller)}`);
      return rawCall(metadata, { deadline: Date.now() + TIMEOUT_MS });
    };
    for (const callers of [AT_ONCE, 1]) {
      const run = (call: () => Promise<Order>) => () => measureHere(undefined, () => keepCalling(callers, { ms: ROUND_MS }, call));
      const found = await alternate(
        { raw: run(() => rawCall(new Metadata(), {})), polis: run(() => polis.createOrder(request)), header: run(withHeader) },
        ROUNDS,
      );
      const asked = callers === 1 ? "one at a time" : `${callers} at once`;
      const beside = { name: "plain grpc-js", rounds: found.raw };
      report(
        ratioFigure({
          name: `gRPC unary, ${asked}`,
          unit: "calls/s",
          rounds: found.polis,
          beside,
          goal: { of: "ratio", atLeast: 0.9 },
          note: "caller token, deadline, access, validation and metrics included, of which plain grpc-js has none; CPU is the client's",
        }),
      );
      report(
        ratioFigure({
          name: `plain grpc-js with header and deadline, ${asked}`,
          unit: "calls/s",
          rounds: found.header,
          beside,
          note: "what grpc-js itself takes for a token that it carries and a deadline that it keeps",
        }),
      );
    }
  },
};
