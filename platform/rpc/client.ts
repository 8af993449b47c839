import type { DescMessage, DescMethod, DescService, Message, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { type Caller, serviceCaller } from "#platform/access/caller.ts";
import { methodName } from "#platform/contract/method-options.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { type Cancellable, cancellableBy } from "#platform/rpc/cancellation.ts";
import type { CallOptions, Context } from "#platform/rpc/context.ts";
import { handOver, MessageTooLarge } from "#platform/rpc/handover.ts";
import { assertCallsAllowed } from "#platform/rpc/no-calls.ts";
import { TIMEOUT_MS_DEFAULT } from "#platform/rpc/served-method.ts";
import { textsAreSound, textViolations } from "#platform/rpc/texts.ts";
import type { Call, Transport } from "#platform/rpc/transport.ts";
import { checkIdempotencyKey, validationFailed } from "#platform/rpc/validation.ts";

/** A typed client of a contract: the same for a service in this process and for one elsewhere. Throws CallError. */
export type Client<S extends DescService> = { readonly [K in keyof S["method"]]: ClientMethod<S["method"][K]> };

type ClientMethod<M> = M extends { methodKind: infer Kind; input: infer I extends DescMessage; output: infer O extends DescMessage }
  ? Kind extends "unary"
    ? (request: MessageInitShape<I>, options?: CallOptions) => Promise<MessageShape<O>>
    : Kind extends "server_streaming"
      ? (request: MessageInitShape<I>, options?: CallOptions) => AsyncIterable<MessageShape<O>>
      : Kind extends "client_streaming"
        ? (requests: AsyncIterable<MessageInitShape<I>>, options?: CallOptions) => Promise<MessageShape<O>>
        : (requests: AsyncIterable<MessageInitShape<I>>, options?: CallOptions) => AsyncIterable<MessageShape<O>>
  : never;

/** Gives the client of a peer, bound to the call that is being served: its deadline, trace and user. */
export type Peers = <S extends DescService>(service: S) => Client<S>;

/** For whom and within what a client calls. */
export type ClientBase = {
  readonly caller: Caller;
  /** The call (or event, or task) in which this client calls: its calls end with it and belong to its trace. */
  readonly context?: Pick<Context, "deadlineMs" | "signal" | "cancellation" | "traceparent" | "origin">;
  /** For calls that don't say otherwise; without `timeoutMs` 15 s, or what is left of the context's time. */
  readonly defaults?: CallOptions;
};

/** A client whose calls go over `transport`. Cheap enough to be made for every call that is served. */
export function createClient<S extends DescService>(service: S, transport: Transport, base: ClientBase): Client<S> {
  const bound: Binding = Object.create(prototypeOf(service));
  bound.transport = transport;
  bound.base = base;
  return bound as unknown as Client<S>;
}

/** Clients for what a service calls while it serves `context`: it acts for whoever called it, and never for longer. */
export const peersOf =
  (
    context: Context,
    { service, transportFor }: { readonly service: string; readonly transportFor: (service: DescService) => Transport },
  ): Peers =>
  (peer) =>
    createClient(peer, transportFor(peer), { caller: serviceCaller(service, context.caller), context });

type Binding = { transport: Transport; base: ClientBase };

const prototypes = new WeakMap<DescService, object>();

/** The methods of all clients of a service: made once, so that a client is but two fields. */
function prototypeOf(service: DescService): object {
  let prototype = prototypes.get(service);
  if (prototype === undefined) {
    prototype = Object.fromEntries(service.methods.map((method) => [method.localName, clientMethod(method)]));
    prototypes.set(service, prototype);
  }
  return prototype;
}

function clientMethod(method: DescMethod): (this: Binding, input: never, options?: CallOptions) => unknown {
  switch (method.methodKind) {
    case "unary":
      return async function (this: Binding, request: object, options?: CallOptions) {
        try {
          return await this.transport.unary(method, outgoing(method, request), makeCall(method, this.base, options));
        } catch (error) {
          throw noted(method, error);
        }
      };
    case "server_streaming":
      return function (this: Binding, request: object, options?: CallOptions) {
        return noting(method, this.transport.serverStreaming(method, outgoing(method, request), makeCall(method, this.base, options)));
      };
    case "client_streaming":
      return async function (this: Binding, requests: AsyncIterable<object>, options?: CallOptions) {
        const source = new Requests(method, requests);
        const call = makeCall(method, this.base, source.within(this.base, options));
        try {
          return await this.transport.clientStreaming(method, source.messages(), call);
        } catch (error) {
          throw source.failure ?? noted(method, error);
        }
      };
    case "bidi_streaming":
      return async function* (this: Binding, requests: AsyncIterable<object>, options?: CallOptions) {
        const source = new Requests(method, requests);
        const call = makeCall(method, this.base, source.within(this.base, options));
        try {
          yield* this.transport.bidiStreaming(method, source.messages(), call);
        } catch (error) {
          throw source.failure ?? noted(method, error);
        }
      };
  }
}

/** "The service can't be reached" doesn't say which. */
function noted(method: DescMethod, error: unknown): unknown {
  if (error instanceof CallError) error.called = methodName(method);
  return error;
}

async function* noting<T>(method: DescMethod, answers: AsyncIterable<T>): AsyncGenerator<T, void> {
  try {
    yield* answers;
  } catch (error) {
    throw noted(method, error);
  }
}

/** A copy of a request, refused where the wire would refuse or change it. */
function outgoing(method: DescMethod, request: object): Message {
  let message: Message;
  try {
    message = handOver(method.input, request);
  } catch (error) {
    if (error instanceof MessageTooLarge) throw tooLarge(error);
    throw error;
  }
  if (!textsAreSound(method.input, message)) throw validationFailed(textViolations(method.input, message));
  return message;
}

const tooLarge = (cause: unknown): CallError =>
  new CallError("INVALID_ARGUMENT", "message_too_large", "The request is too large.", { cause });

function makeCall(method: DescMethod, { caller, context, defaults }: ClientBase, options: CallOptions | undefined): Call {
  assertCallsAllowed(method);
  const timeoutMs = options?.timeoutMs ?? defaults?.timeoutMs;
  const limitMs = context?.deadlineMs ?? Number.POSITIVE_INFINITY;
  let deadlineMs = limitMs;
  if (timeoutMs !== undefined) deadlineMs = Math.min(limitMs, Date.now() + timeoutMs);
  else if (context === undefined) deadlineMs = Date.now() + TIMEOUT_MS_DEFAULT;
  if (timeoutMs === Number.POSITIVE_INFINITY && (method.methodKind === "unary" || method.methodKind === "client_streaming"))
    throw new RangeError(`${method.name}: a call with one answer has a deadline`);
  const idempotencyKey = options?.idempotencyKey ?? defaults?.idempotencyKey;
  checkIdempotencyKey(idempotencyKey);
  return {
    caller,
    deadlineMs,
    cancellation: cancellationOf(context, options?.signal ?? defaults?.signal),
    traceparent: options?.traceparent ?? context?.traceparent ?? defaults?.traceparent,
    idempotencyKey,
    origin: context?.origin,
  };
}

function cancellationOf(context: ClientBase["context"], signal: AbortSignal | undefined): Cancellable | undefined {
  if (context === undefined) return signal === undefined ? undefined : cancellableBy(signal);
  if (signal !== undefined) return cancellableBy(AbortSignal.any([context.signal, signal]));
  return context.cancellation ?? cancellableBy(context.signal);
}

/** What a client streams. Where its source fails, the call is cancelled, and the caller gets the source's own error. */
class Requests {
  failure: unknown;
  readonly #controller = new AbortController();
  readonly #method: DescMethod;
  readonly #source: AsyncIterable<object>;

  constructor(method: DescMethod, source: AsyncIterable<object>) {
    this.#method = method;
    this.#source = source;
  }

  within(base: ClientBase, options: CallOptions | undefined): CallOptions {
    const given = options?.signal ?? base.defaults?.signal;
    const signal = given === undefined ? this.#controller.signal : AbortSignal.any([given, this.#controller.signal]);
    return { ...options, signal };
  }

  async *messages(): AsyncGenerator<Message, void> {
    try {
      for await (const request of this.#source) yield outgoing(this.#method, request);
    } catch (error) {
      this.failure = error;
      this.#controller.abort(error);
      throw error;
    }
  }
}
