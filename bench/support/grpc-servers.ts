// Two servers in a process of their own: Polis's, and plain grpc-js with the same messages. `grpc-servers.ts SECRET`
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js";
import { type CreateOrderRequest, CreateOrderRequestSchema, type Order, OrderSchema } from "#contracts/polis/orders/v1/orders_pb.ts";
import { callerTokens } from "#platform/access/caller-token.ts";
import { secretsOf } from "#platform/access/secrets.ts";
import { startGrpcServer } from "#platform/rpc/grpc-server.ts";
import { answerJobs } from "./child.ts";
import { order, ordersEndpoint } from "./constant-orders.ts";

export type Ports = { readonly polis: number; readonly raw: number };

const [secret = ""] = process.argv.slice(2);
const polis = startGrpcServer({ endpoints: [ordersEndpoint()], tokens: callerTokens({ secrets: secretsOf([secret]) }), port: 0 });
const raw = new Server();
raw.addService(
  {
    createOrder: {
      path: "/polis.orders.v1.OrdersService/CreateOrder",
      requestStream: false,
      responseStream: false,
      requestSerialize: (request: CreateOrderRequest) => Buffer.from(toBinary(CreateOrderRequestSchema, request)),
      requestDeserialize: (bytes: Buffer) => fromBinary(CreateOrderRequestSchema, bytes),
      responseSerialize: (answer: Order) => Buffer.from(toBinary(OrderSchema, answer)),
      responseDeserialize: (bytes: Buffer) => fromBinary(OrderSchema, bytes),
    },
  },
  { createOrder: (_call: ServerUnaryCall<CreateOrderRequest, Order>, done: sendUnaryData<Order>) => done(null, order) },
);
const rawPort = new Promise<number>((resolve, reject) => {
  raw.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => (error === null ? resolve(port) : reject(error)));
});

answerJobs<object, Ports>(
  async () => ({ polis: (await polis).port, raw: await rawPort }),
  async () => {
    raw.forceShutdown();
    await polis.then((server) => server.close({ drainMs: 0 }));
  },
);
