import { create } from "@bufbuild/protobuf";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect } from "vitest";
import { AnswerSchema, ConformanceService } from "#contracts/polis/conformance/v1/conformance_pb.ts";
import { type Caller, userCaller } from "#platform/access/caller.ts";
import { callerTokens } from "#platform/access/caller-token.ts";
import { secretsOf } from "#platform/access/secrets.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { type ClientBase, createClient } from "#platform/rpc/client.ts";
import { defineEndpoint, type Endpoint, type Handlers } from "#platform/rpc/endpoint.ts";
import { startGrpcServer } from "#platform/rpc/grpc-server.ts";
import { grpcTransport } from "#platform/rpc/grpc-transport.ts";
import type { Transport } from "#platform/rpc/transport.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { passingTracer } from "#platform/telemetry/tracing.ts";

type Service = typeof ConformanceService;
type Opened = { readonly transport: Transport; close(): Promise<void> };
type Tools = Parameters<typeof defineEndpoint>[2];
type Logged = { level: number; msg: string; method: string; err: { message: string } };

export const tokens = callerTokens({ secrets: secretsOf(["a secret of at least thirty-two characters"]) });
export const user = userCaller("01890000-0000-7000-8000-000000000001");

export const say = (text: string) => create(AnswerSchema, { text });
export const echo = async (request: { text: string }) => say(request.text);
const unexpected = async () => {
  throw new Error("no handler for this test");
};
export async function* nothing() {}

/** What a test doesn't name isn't called. */
const defaults: Handlers<Service> = {
  ask: echo,
  change: unexpected,
  act: unexpected,
  getOwned: unexpected,
  askPublic: echo,
  askGuarded: echo,
  askInternal: echo,
  listen: nothing,
  tell: unexpected,
  converse: nothing,
};

/** The service with these handlers, whoever serves it. */
export const conformanceEndpoint = (handlers: Partial<Handlers<Service>> = {}): Endpoint =>
  defineEndpoint(
    ConformanceService,
    { ...defaults, ...handlers },
    { metrics: new Metrics(), tracer: passingTracer, log: pino({ level: "silent" }) },
  );

const inProcess = (handlers: Handlers<Service>, tools: Tools): Promise<Opened> =>
  Promise.resolve({ transport: defineEndpoint(ConformanceService, handlers, tools), close: async () => {} });

async function overGrpc(handlers: Handlers<Service>, tools: Tools): Promise<Opened> {
  const endpoint = defineEndpoint(ConformanceService, handlers, tools);
  const server = await startGrpcServer({ endpoints: [endpoint], tokens, port: 0 });
  const transport = grpcTransport({ addresses: [`localhost:${server.port}`], tokens });
  return {
    transport,
    close: async () => {
      transport.close();
      await server.close({ drainMs: 100 });
    },
  };
}

/** What a call is, whichever way it goes: every sentence said here is tested in process and over gRPC. */
export const describeCalls = (sentences: (served: ReturnType<typeof serveEach>) => void): void =>
  describe.each([
    ["in process", inProcess],
    ["over gRPC", overGrpc],
  ])("a call %s", (_way, open) => sentences(serveEach(open)));

/** Serves the service anew for each test of the describe around it: by the handlers that the test names with `serve`, and with an empty log. */
function serveEach(open: typeof overGrpc) {
  const logged: Logged[] = [];
  const metrics = new Metrics();
  const tools: Tools = {
    metrics,
    tracer: passingTracer,
    log: pino({ level: "debug" }, { write: (line: string) => void logged.push(JSON.parse(line)) }),
  };
  let opened: Opened;
  let current: Handlers<Service> = defaults;
  beforeEach(async () => {
    current = defaults;
    logged.length = 0;
    const late = Object.fromEntries(
      ConformanceService.methods.map(({ localName }) => [
        localName,
        (...args: unknown[]) => (current[localName as keyof Service["method"]] as (...given: unknown[]) => unknown)(...args),
      ]),
    );
    opened = await open(late as unknown as Handlers<Service>, tools);
  });
  afterEach(() => opened.close());

  const serve = (handlers: Partial<Handlers<Service>>) => {
    current = { ...defaults, ...handlers };
  };
  const transport = () => opened.transport;
  const clientOf = (caller: Caller, base: Omit<ClientBase, "caller"> = {}) =>
    createClient(ConformanceService, transport(), { caller, ...base });
  const client = () => clientOf(user);
  return { serve, client, clientOf, transport, logged, metrics };
}

export const failure = (call: Promise<unknown>): Promise<CallError> =>
  call.then(
    () => expect.unreachable("the call was answered"),
    (error) => {
      expect(error).toBeInstanceOf(CallError);
      return error;
    },
  );

export const collect = async <T>(stream: AsyncIterable<T>): Promise<T[]> => {
  const items: T[] = [];
  for await (const item of stream) items.push(item);
  return items;
};

export const texts = (items: { text: string }[]) => items.map(({ text }) => text);
