import type { Server as NetServer } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import type { DescMessage, DescMethod, Message } from "@bufbuild/protobuf";
import {
  type Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type sendUnaryData,
  type UntypedHandleCall,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { HealthImplementation } from "grpc-health-check";
import type { CallerTokens } from "#platform/access/caller-token.ts";
import { boundByAddress } from "#platform/bound-by-address.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Cancellable, Dependant } from "#platform/rpc/cancellation.ts";
import type { Endpoint } from "#platform/rpc/endpoint.ts";
import { type Admission, admission } from "#platform/rpc/grpc-admission.ts";
import { toGrpc } from "#platform/rpc/grpc-errors.ts";
import { addReflection } from "#platform/rpc/grpc-reflection.ts";
import { asBytes, decoder, encode, readMessages, writeMessages } from "#platform/rpc/grpc-streams.ts";
import type { GrpcTls } from "#platform/rpc/grpc-tls.ts";
import { MESSAGE_BYTES_MAX } from "#platform/rpc/handover.ts";
import { readOrigin } from "#platform/rpc/origin.ts";
import { Race } from "#platform/rpc/race.ts";
import { cancelled } from "#platform/rpc/served-call.ts";
import type { Call } from "#platform/rpc/transport.ts";
import { checkIdempotencyKey } from "#platform/rpc/validation.ts";

export type GrpcServer = {
  readonly port: number;
  /** Takes no new calls, waits for those that run, and ends them after `drainMs` (10 s). */
  close(options?: { readonly drainMs?: number }): Promise<void>;
};

const OPTIONS = {
  "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
  "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
  // Somewhat more than the calls that a peer has under way (circuit.ts).
  "grpc.max_concurrent_streams": 1_200,
  "grpc.keepalive_time_ms": 20_000,
  "grpc.keepalive_timeout_ms": 10_000,
  // Behind a balancer of connections, servers that are added get their share only when connections are made anew.
  "grpc.max_connection_age_ms": 30 * 60_000,
  "grpc.max_connection_age_grace_ms": 5 * 60_000,
};

const DRAIN_MS_DEFAULT = 10_000;

/** A peer has one for each process and address of ours. */
const CONNECTIONS_MAX = 2_000;
const CONNECTIONS_OF_ADDRESS_MAX = 500;

/**
 * Serves endpoints over gRPC. Health and reflection are open to strangers; whoever calls anything else is who the caller
 * token in `authorization: Bearer …` says, or nobody. Listens on loopback unless told otherwise; port 0 takes a free one.
 */
export async function startGrpcServer(options: {
  readonly endpoints: readonly Endpoint[];
  readonly tokens: Pick<CallerTokens, "verify">;
  /** Without it, nothing is encrypted. */
  readonly tls?: GrpcTls | undefined;
  readonly host?: string;
  readonly port: number;
  /** How long a request may take to come whole, unless it is a stream: 15 s. */
  readonly requestMs?: number;
  /** Of one address: 500. */
  readonly connectionsOfAddressMax?: number;
}): Promise<GrpcServer> {
  const { endpoints, tokens, tls, host = "127.0.0.1" } = options;
  const admitted = admission(endpoints, tokens, { requestMs: options.requestMs });
  const server = new Server({ ...OPTIONS, interceptors: [admitted.interceptor] });
  for (const endpoint of endpoints) server.addService(definitionOf(endpoint), implementationOf(endpoint, admitted));
  const names = ["", ...endpoints.map((endpoint) => endpoint.service.typeName)];
  const health = new HealthImplementation(Object.fromEntries(names.map((name) => [name, "SERVING"])));
  const watches = new Set<ServerWritableStream<unknown, unknown>>();
  health.addToServer(keepingWatches(server, watches));
  addReflection(
    server,
    endpoints.map((endpoint) => endpoint.service),
  );
  const port = await new Promise<number>((resolve, reject) => {
    const address = `${host.includes(":") ? `[${host}]` : host}:${options.port}`;
    server.bindAsync(address, tls?.server() ?? ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  boundConnections(server, options.connectionsOfAddressMax ?? CONNECTIONS_OF_ADDRESS_MAX);
  return {
    port,
    close({ drainMs = DRAIN_MS_DEFAULT } = {}) {
      for (const name of names) health.setStatus(name, "NOT_SERVING");
      for (const watch of watches) watch.end();
      return new Promise((resolve) => {
        const force = setTimeout(() => server.forceShutdown(), drainMs);
        server.tryShutdown(() => {
          clearTimeout(force);
          resolve();
        });
      });
    },
  };
}

/** grpc-js has no bound of its own, and keeps the servers to itself that listen for it: what a test of ours relies on. */
function boundConnections(server: Server, ofAddressMax: number): void {
  const { http2Servers } = server as unknown as { readonly http2Servers: ReadonlyMap<NetServer, unknown> };
  for (const listening of http2Servers.keys()) {
    listening.maxConnections = CONNECTIONS_MAX;
    boundByAddress(listening, { max: ofAddressMax });
  }
}

/** Where health is added: who watches it would otherwise keep the server from closing. */
const keepingWatches = (server: Server, watches: Set<ServerWritableStream<unknown, unknown>>): Server =>
  ({
    addService(definition: ServiceDefinition, { watch, ...others }: UntypedServiceImplementation) {
      const keeping = (call: ServerWritableStream<unknown, unknown>): void => {
        watches.add(call);
        call.on("cancelled", () => watches.delete(call));
        (watch as (call: unknown) => void)(call);
      };
      server.addService(definition, { ...others, watch: keeping });
    },
  }) as unknown as Server;

const definitionOf = ({ service }: Endpoint): ServiceDefinition =>
  Object.fromEntries(
    service.methods.map((method) => [
      method.name,
      {
        path: `/${service.typeName}/${method.name}`,
        requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
        responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
        requestSerialize: asBytes,
        requestDeserialize: asBytes,
        responseSerialize: asBytes,
        responseDeserialize: asBytes,
      },
    ]),
  );

const implementationOf = (endpoint: Endpoint, admitted: Admission): UntypedServiceImplementation =>
  Object.fromEntries(endpoint.service.methods.map((method) => [method.name, handlerOf(endpoint, method, admitted)]));

function handlerOf(endpoint: Endpoint, method: DescMethod, admitted: Admission): UntypedHandleCall {
  switch (method.methodKind) {
    case "unary":
      return (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) =>
        respond(method, done, async () => {
          const context = incoming(call, admitted);
          return endpoint.unary(method, decode(method.input, call.request), context);
        });
    case "client_streaming":
      return (call: ServerReadableStream<Buffer, Buffer>, done: sendUnaryData<Buffer>) =>
        respond(method, done, async () => endpoint.clientStreaming(method, requestsOf(method, call), incoming(call, admitted)));
    case "server_streaming":
      return (call: ServerWritableStream<Buffer, Buffer>) =>
        stream(method, call, async () => {
          const context = incoming(call, admitted);
          return endpoint.serverStreaming(method, decode(method.input, call.request), context);
        });
    case "bidi_streaming":
      return (call: ServerDuplexStream<Buffer, Buffer>) =>
        stream(method, call, async () => endpoint.bidiStreaming(method, requestsOf(method, call), incoming(call, admitted)));
  }
}

/** How long after the last request a client may still turn out to have gone away. */
const LAST_REQUEST_PAUSE_MS = 20;

/**
 * What a client streams. A client on Node that cancels (grpc-js on http2) first ends its stream properly and resets it just
 * after, so for a moment half an upload looks like the whole. The end is believed after a pause. That makes the mistake
 * rare and not impossible: what must be whole carries its length or hash.
 */
const requestsOf = (method: DescMethod, call: Parameters<typeof readMessages>[0] & IncomingCall): AsyncIterable<Message> =>
  readMessages(call, {
    decode: (bytes) => decode(method.input, bytes),
    async checkEnd() {
      await pause(LAST_REQUEST_PAUSE_MS);
      if (call.cancelled) throw cancelled();
    },
  });

type IncomingCall = {
  readonly cancelled: boolean;
  readonly metadata: Metadata;
  getDeadline(): Date | number;
  on(event: "cancelled", listener: () => void): unknown;
  off(event: "cancelled", listener: () => void): unknown;
};

/** Who calls, until when, and with what. */
function incoming(call: IncomingCall, { callerOf }: Admission): Call {
  const deadline = call.getDeadline();
  const idempotencyKey = text(call.metadata, "idempotency-key");
  checkIdempotencyKey(idempotencyKey);
  return {
    caller: callerOf(call.metadata),
    deadlineMs: typeof deadline === "number" ? deadline : deadline.getTime(),
    cancellation: cancellableBy(call),
    traceparent: text(call.metadata, "traceparent"),
    idempotencyKey,
    origin: readOrigin(call.metadata),
  };
}

const text = (metadata: Metadata, name: string): string | undefined => {
  const [first] = metadata.get(name);
  return typeof first === "string" ? first : undefined;
};

function cancellableBy(call: IncomingCall): Cancellable {
  const listeners = new Map<Dependant, () => void>();
  return {
    get cancelled() {
      return call.cancelled;
    },
    add(dependant) {
      const listener = () => dependant.cancel();
      listeners.set(dependant, listener);
      call.on("cancelled", listener);
    },
    remove(dependant) {
      const listener = listeners.get(dependant);
      if (listener !== undefined) call.off("cancelled", listener);
      listeners.delete(dependant);
    },
  };
}

function decode(schema: DescMessage, bytes: Uint8Array): Message {
  try {
    return decoder(schema)(bytes);
  } catch (cause) {
    throw malformed(schema, cause);
  }
}

const malformed = (schema: DescMessage, cause: unknown): CallError =>
  new CallError("INVALID_ARGUMENT", "malformed_message", `The bytes are no ${schema.typeName}.`, { cause });

function respond(method: DescMethod, done: sendUnaryData<Buffer>, run: () => Promise<Message>): void {
  run()
    .then((answer) => encode(method.output, answer))
    .then(
      (bytes) => done(null, bytes),
      (error: unknown) => done(toGrpc(error)),
    );
}

type OutgoingStream = Parameters<typeof writeMessages>[0] & IncomingCall & { end(): void };

function stream(method: DescMethod, call: OutgoingStream, run: () => Promise<AsyncIterable<Message>>): void {
  const race = new Race();
  call.on("cancelled", () => race.lose(cancelled()));
  run()
    .then((answers) => writeMessages(call, method.output, answers, race))
    .then(
      () => call.end(),
      // So grpc-js is told of an error: it ends the stream with it.
      (error: unknown) => void call.emit("error", toGrpc(error)),
    );
}
