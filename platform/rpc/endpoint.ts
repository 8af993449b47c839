import type { DescMessage, DescMethod, DescService, Message, MessageShape } from "@bufbuild/protobuf";
import type { Caller } from "#platform/access/caller.ts";
import { methodName, serviceName } from "#platform/contract/method-options.ts";
import type { Rejection } from "#platform/rejection.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Context } from "#platform/rpc/context.ts";
import { Race } from "#platform/rpc/race.ts";
import type { ServedCall } from "#platform/rpc/served-call.ts";
import { type EndpointTools, type ServedMethod, serveMethod } from "#platform/rpc/served-method.ts";
import type { Call, Transport } from "#platform/rpc/transport.ts";

/** What answers one method. A stream says no by yielding a rejection, which ends it. */
export type Handler<M> = M extends { methodKind: infer Kind; input: infer I extends DescMessage; output: infer O extends DescMessage }
  ? Kind extends "unary"
    ? (request: MessageShape<I>, context: Context) => Promise<MessageShape<O> | Rejection>
    : Kind extends "server_streaming"
      ? (request: MessageShape<I>, context: Context) => AsyncIterable<MessageShape<O> | Rejection>
      : Kind extends "client_streaming"
        ? (requests: AsyncIterable<MessageShape<I>>, context: Context) => Promise<MessageShape<O> | Rejection>
        : (requests: AsyncIterable<MessageShape<I>>, context: Context) => AsyncIterable<MessageShape<O> | Rejection>
  : never;

/** By the method's name in the client: `createOrder`. */
export type Handlers<S extends DescService> = { readonly [K in keyof S["method"]]: Handler<S["method"][K]> };

/** What stands at a service's edge; in process, clients call it directly. */
export type Endpoint = Transport & {
  /** `orders` */
  readonly name: string;
  readonly service: DescService;
  /** Throws, as each call of the method would, where the caller may not call: for who hasn't the request yet. */
  admit(method: DescMethod, caller: Caller): void;
};

// What is inside is known to the contract; at run time a request has the type of its method.
type AnyAnswer = Message | Rejection;
type AnyHandler = (request: unknown, context: Context) => Promise<AnyAnswer> | AsyncIterable<AnyAnswer>;
type Bound = ServedMethod & { readonly handle: AnyHandler };

/**
 * The edge of a service, the same for callers in process and over gRPC: who may call, what a request must hold, how long
 * it may take, what its errors look like. Throws one error that names every fault of the contract and every method without
 * a handler. Streams start when they are first read.
 */
export function defineEndpoint<S extends DescService>(
  service: S,
  handlers: Handlers<S>,
  tools: EndpointTools & { readonly name?: string },
): Endpoint {
  const name = tools.name ?? serviceName(service);
  const bound = bind(service, handlers as unknown as Record<string, AnyHandler | undefined>, name, tools);
  const find = (method: DescMethod): Bound => {
    const found = method.parent.typeName === service.typeName ? bound.get(method.localName) : undefined;
    if (found === undefined) throw new CallError("UNIMPLEMENTED", "unimplemented", `${name} doesn't know ${methodName(method)}.`);
    return found;
  };
  return {
    name,
    service,
    admit: (method, caller) => find(method).turnAway(caller),
    unary: (method, request, call) =>
      answerOnce(find, method, call, (m, served) => {
        m.checkRequest(request);
        return m.handle(request, served) as Promise<AnyAnswer>;
      }),
    clientStreaming: (method, requests, call) =>
      answerOnce(find, method, call, (m, served) => m.handle(checked(m, requests, served), served) as Promise<AnyAnswer>),
    serverStreaming: (method, request, call) =>
      answerMany(find, method, call, (m, served) => {
        m.checkRequest(request);
        return m.handle(request, served) as AsyncIterable<AnyAnswer>;
      }),
    bidiStreaming: (method, requests, call) =>
      answerMany(find, method, call, (m, served) => m.handle(checked(m, requests, served), served) as AsyncIterable<AnyAnswer>),
  };
}

function bind(
  service: DescService,
  handlers: Record<string, AnyHandler | undefined>,
  name: string,
  tools: EndpointTools,
): ReadonlyMap<string, Bound> {
  const bound = new Map<string, Bound>();
  const faults: string[] = [];
  for (const method of service.methods) {
    const handle = handlers[method.localName];
    if (handle === undefined) faults.push(`${methodName(method)}: has no handler`);
    try {
      const served = serveMethod(method, name, tools);
      if (handle !== undefined) bound.set(method.localName, { ...served, handle });
    } catch (error) {
      faults.push(error instanceof Error ? error.message : String(error));
    }
  }
  const unknown = Object.keys(handlers).filter((key) => service.method[key] === undefined);
  faults.push(...unknown.map((key) => `${service.typeName}: has no method for the handler ${key}`));
  if (faults.length > 0) throw new Error(`${service.typeName} can't be served:\n  ${faults.join("\n  ")}`);
  return bound;
}

type Run<Answer> = (method: Bound, served: ServedCall) => Answer;
type Find = (method: DescMethod) => Bound;

/** Unary and client streaming. The caller is let go at the deadline, whatever the handler does. */
function answerOnce(find: Find, desc: DescMethod, call: Call, run: Run<Promise<AnyAnswer>>): Promise<Message> {
  return new Promise((resolve, reject) => {
    const method = find(desc);
    const fail = (error: unknown): void => {
      const shown = method.shown(error, opened.served);
      if (opened.served.ended) return;
      method.close(opened, shown);
      reject(shown);
    };
    const opened = method.open(call, (error) => {
      method.close(opened, error);
      reject(error);
    });
    const { served } = opened;
    try {
      served.begin();
      if (served.ended) return;
      method.admit(served);
      run(method, served).then((answer) => {
        if (served.ended) return;
        try {
          const message = method.answer(answer, served);
          method.close(opened, undefined);
          resolve(message);
        } catch (error) {
          fail(error);
        }
      }, fail);
    } catch (error) {
      fail(error);
    }
  });
}

/** Server streaming and both ways. */
async function* answerMany(find: Find, desc: DescMethod, call: Call, run: Run<AsyncIterable<AnyAnswer>>): AsyncGenerator<Message, void> {
  const method = find(desc);
  const race = new Race();
  const opened = method.open(call, (error) => race.lose(error));
  const { served } = opened;
  let answers: AsyncIterator<AnyAnswer> | undefined;
  let failed: CallError | undefined;
  let complete = false;
  try {
    served.begin();
    race.check();
    method.admit(served);
    answers = run(method, served)[Symbol.asyncIterator]();
    for (;;) {
      const next = await race.against(answers.next());
      if (next.done === true) break;
      yield method.answer(next.value, served);
    }
    complete = true;
  } catch (error) {
    failed = method.shown(error, served);
    throw failed;
  } finally {
    method.close(opened, failed);
    if (!complete) {
      // The reader is not held up by a handler that takes its time to end.
      served.abandon();
      endQuietly(answers);
    }
  }
}

/** The messages of a client, each checked; they end with the call. */
async function* checked(method: Bound, requests: AsyncIterable<Message>, served: ServedCall): AsyncGenerator<Message, void> {
  const race = new Race();
  const end = { cancel: () => race.lose(served.givenUp) };
  const messages = requests[Symbol.asyncIterator]();
  let complete = false;
  served.add(end);
  try {
    if (served.cancelled) end.cancel();
    for (;;) {
      const next = await race.against(messages.next());
      if (next.done === true) break;
      method.checkRequest(next.value);
      yield next.value;
    }
    complete = true;
  } finally {
    served.remove(end);
    if (!complete) endQuietly(messages);
  }
}

/** Tells an iterator that nobody reads on, and neither waits for it nor minds what it says. */
function endQuietly(iterator: AsyncIterator<unknown> | undefined): void {
  iterator?.return?.().then(undefined, () => {});
}
