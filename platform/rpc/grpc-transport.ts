import type { DescMethod, Message } from "@bufbuild/protobuf";
import { Client, type ClientOptions, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { type CallerTokens, TOKEN_REFUSED } from "#platform/access/caller-token.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Dependant } from "#platform/rpc/cancellation.ts";
import { targetOf } from "#platform/rpc/grpc-addresses.ts";
import { fromGrpc } from "#platform/rpc/grpc-errors.ts";
import { GREETING_MS, greetedInTime } from "#platform/rpc/grpc-greeting.ts";
import { asBytes, decoder, encode, readMessages, writeMessages } from "#platform/rpc/grpc-streams.ts";
import type { GrpcTls } from "#platform/rpc/grpc-tls.ts";
import { MESSAGE_BYTES_MAX } from "#platform/rpc/handover.ts";
import { writeOrigin } from "#platform/rpc/origin.ts";
import { Race } from "#platform/rpc/race.ts";
import { cancelled, deadlineExceeded } from "#platform/rpc/served-call.ts";
import type { Call, Transport } from "#platform/rpc/transport.ts";

const OPTIONS: ClientOptions = {
  "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
  "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
  // A peer that is frozen, or whose machine vanished, is noticed while calls wait for it, and not when TCP gives up.
  "grpc.keepalive_time_ms": 5_000,
  "grpc.keepalive_timeout_ms": 3_000,
  "grpc.initial_reconnect_backoff_ms": 100,
  // One that has come back, or come new, is found before the next one goes.
  "grpc.max_reconnect_backoff_ms": 1_000,
  "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
  "grpc.service_config_disable_resolution": 1,
};

export type GrpcTransport = Transport & { close(): void };

/**
 * The way to a service in another process, at one or several addresses (`host:port`) that take turns. Connects with the
 * first call. The caller goes along as a signed token; nobody goes along without one.
 */
export function grpcTransport(options: {
  readonly addresses: readonly string[];
  readonly tokens: Pick<CallerTokens, "sign">;
  /** Without it, nothing is encrypted. */
  readonly tls?: GrpcTls | undefined;
  /** How long a peer that has taken a connection may be mute: 5 s. */
  readonly greetingMs?: number;
}): GrpcTransport {
  const { addresses, tls, greetingMs = GREETING_MS } = options;
  const secured = greetedInTime(tls?.channel(addresses) ?? credentials.createInsecure(), greetingMs);
  const client = new Client(targetOf(addresses), secured, OPTIONS);
  const prepare = async (call: Call): Promise<Metadata> => {
    const metadata = new Metadata();
    if (call.caller.kind !== "nobody") metadata.set("authorization", `Bearer ${await options.tokens.sign(call.caller)}`);
    if (call.traceparent !== undefined) metadata.set("traceparent", call.traceparent);
    if (call.idempotencyKey !== undefined) metadata.set("idempotency-key", call.idempotencyKey);
    if (call.origin !== undefined) writeOrigin(metadata, call.origin);
    if (Date.now() >= call.deadlineMs) throw deadlineExceeded();
    if (call.cancellation?.cancelled === true) throw cancelled();
    return metadata;
  };
  return {
    async unary(method, request, call) {
      const metadata = await prepare(call);
      const bytes = encode(method.input, request);
      return answerOf(method, call, (done) =>
        withoutStack(() => client.makeUnaryRequest(pathOf(method), asBytes, asBytes, bytes, metadata, { deadline: call.deadlineMs }, done)),
      );
    },
    async clientStreaming(method, requests, call) {
      const metadata = await prepare(call);
      const race = new Race();
      const answer = answerOf(method, call, (done) => {
        const stream = client.makeClientStreamRequest(pathOf(method), asBytes, asBytes, metadata, { deadline: call.deadlineMs }, done);
        send(method, requests, stream, race);
        return stream;
      });
      return answer.finally(() => race.lose(cancelled()));
    },
    async *serverStreaming(method, request, call) {
      const metadata = await prepare(call);
      const stream = client.makeServerStreamRequest(pathOf(method), asBytes, asBytes, encode(method.input, request), metadata, {
        deadline: call.deadlineMs,
      });
      yield* answersOf(method, call, stream);
    },
    async *bidiStreaming(method, requests, call) {
      const metadata = await prepare(call);
      const race = new Race();
      const stream = client.makeBidiStreamRequest(pathOf(method), asBytes, asBytes, metadata, { deadline: call.deadlineMs });
      send(method, requests, stream, race);
      try {
        yield* answersOf(method, call, stream);
      } finally {
        race.lose(cancelled());
      }
    },
    close: () => client.close(),
  };
}

const pathOf = (method: DescMethod): string => `/${method.parent.typeName}/${method.name}`;

type Cancellable = { cancel(): void };

function answerOf(
  method: DescMethod,
  call: Call,
  start: (done: (error: ServiceError | null, bytes?: Buffer) => void) => Cancellable,
): Promise<Message> {
  return new Promise((resolve, reject) => {
    const started = start((error, bytes) => {
      call.cancellation?.remove(dependant);
      if (error !== null) return reject(failureOf(error, call));
      try {
        resolve(decoder(method.output)(bytes as Buffer));
      } catch (cause) {
        reject(CallError.from(cause));
      }
    });
    const dependant: Dependant = { cancel: () => started.cancel() };
    call.cancellation?.add(dependant);
  });
}

/** What its caller is told of a call that failed. A peer that doesn't know our token is the fault of who runs us, and not of the user. */
function failureOf(error: ServiceError, { deadlineMs }: Call): CallError {
  const told = fromGrpc(error, deadlineMs);
  if (told.code !== TOKEN_REFUSED) return told;
  const cause = new Error("the peer doesn't take our caller tokens: both need the same POLIS_SECRET, and the same time", { cause: error });
  return new CallError("UNAVAILABLE", "unavailable", "The service can't be reached.", { cause });
}

/**
 * grpc-js takes the stack of whoever starts a call, in case it fails: a tenth of the CPU of a call that doesn't, for frames
 * that are all of this file. Nothing but grpc-js may run in it.
 */
function withoutStack<T>(start: () => T): T {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return start();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

type MessageReader = Parameters<typeof readMessages>[0] & Cancellable;

async function* answersOf(method: DescMethod, call: Call, stream: MessageReader): AsyncGenerator<Message, void> {
  const dependant: Dependant = { cancel: () => stream.cancel() };
  call.cancellation?.add(dependant);
  try {
    yield* readMessages(stream, { decode: decoder(method.output), failsAtOnce: isGivenUp });
  } catch (error) {
    throw isServiceError(error) ? failureOf(error, call) : CallError.from(error);
  } finally {
    call.cancellation?.remove(dependant);
    // Where the reader went away; after the end it does nothing.
    stream.cancel();
  }
}

/** Streams requests along; what becomes of the call, its answer tells. */
function send(
  method: DescMethod,
  requests: AsyncIterable<Message>,
  stream: Parameters<typeof writeMessages>[0] & Cancellable,
  race: Race,
): void {
  writeMessages(stream, method.input, requests, race).then(
    () => stream.end(),
    () => stream.cancel(),
  );
}

const isServiceError = (error: unknown): error is ServiceError => error instanceof Error && "code" in error && "metadata" in error;

/** The reader gave up or ran out of time: what is buffered is of no use to it. */
const isGivenUp = (error: unknown): boolean => isServiceError(error) && (error.code === 1 || error.code === 4);
