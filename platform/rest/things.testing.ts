import { create, type DescMethod, type Message, type MessageInitShape } from "@bufbuild/protobuf";
import pino from "pino";
import { onTestFinished } from "vitest";
import { HttpBodySchema } from "#contracts/google/api/httpbody_pb.ts";
import { ThingSchema, ThingsService } from "#contracts/polis/resttest/v1/resttest_pb.ts";
import { headerIdentity } from "#platform/rest/identity.ts";
import type { Problem } from "#platform/rest/problem.ts";
import { createRestServer, type RestServer, type RestServerOptions } from "#platform/rest/server.ts";
import type { Call, Transport } from "#platform/rpc/transport.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { passingTracer } from "#platform/telemetry/tracing.ts";

export const userId = "0190b6a0-0000-7000-8000-000000000001";
export const thingId = "0190b6a0-0000-7000-8000-0000000000aa";

type Answer = (request: Message, call: Call) => Message | Promise<Message>;
/** What a method of the test's service answers, by its name; what isn't here answers with an empty message. */
export type Answers = {
  readonly unary?: Readonly<Record<string, Answer>>;
  readonly stream?: (method: DescMethod, request: Message, call: Call) => AsyncIterable<Message>;
  readonly upload?: (method: DescMethod, requests: AsyncIterable<Message>, call: Call) => Promise<Message>;
};

export type Received = { method: string; request: Message; call: Call };

/** A server of the test contract on a free port of loopback until the test ends, and what reached its methods. */
export async function startThings(
  answers: Answers = {},
  options: Partial<RestServerOptions> = {},
): Promise<{ url: string; server: RestServer; received: Received[]; metrics: Metrics; logged: string[] }> {
  const received: Received[] = [];
  const logged: string[] = [];
  const transport: Transport = {
    async unary(method, request, call) {
      received.push({ method: method.name, request, call });
      return (await answers.unary?.[method.name]?.(request, call)) ?? create(method.output);
    },
    serverStreaming(method, request, call) {
      received.push({ method: method.name, request, call });
      if (answers.stream === undefined) throw new Error("the test says no stream");
      return answers.stream(method, request, call);
    },
    clientStreaming(method, requests, call) {
      if (answers.upload === undefined) throw new Error("the test says no upload");
      return answers.upload(method, requests, call);
    },
    bidiStreaming() {
      throw new Error("HTTP has no stream both ways");
    },
  };
  const metrics = new Metrics();
  const server = createRestServer({
    services: [ThingsService],
    transportFor: () => transport,
    tracer: passingTracer,
    identity: headerIdentity,
    log: pino({ level: "warn" }, { write: (line: string) => void logged.push(line) }),
    metrics,
    health: { live: () => true, ready: async () => ({ ready: true, checks: { postgres: "ok" } }) },
    info: { title: "Things", version: "1.2.3" },
    ...options,
  });
  onTestFinished(() => server.close());
  return { url: await server.listen(0, "127.0.0.1"), server, received, metrics, logged };
}

/** Such a server, how a test calls it as a user, and the last request that reached a method. */
export async function things(answers: Answers = {}, options: Parameters<typeof startThings>[1] = {}) {
  const started = await startThings(answers, options);
  const call = async (method: string, path: string, init: RequestInit = {}) => {
    const response = await fetch(started.url + path, {
      method,
      ...init,
      headers: { "x-user-id": userId, ...(init.headers as Record<string, string>) },
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      text,
      json: () => JSON.parse(text) as Record<string, unknown>,
      problem: () => JSON.parse(text) as Problem,
    };
  };
  const send = (method: string, path: string, body: unknown, headers: Record<string, string> = {}) =>
    call(method, path, {
      body: typeof body === "string" ? body : JSON.stringify(body),
      headers: { "content-type": "application/json", ...headers },
    });
  return { ...started, call, send, last: <T>() => started.received.at(-1)?.request as T };
}

export const thing = (init: MessageInitShape<typeof ThingSchema> = {}) =>
  create(ThingSchema, { id: thingId, userId, amount: 1000n, currency: "RUB", ...init });
export const httpBody = (contentType: string, data: string) => create(HttpBodySchema, { contentType, data: Buffer.from(data) });
