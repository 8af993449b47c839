import type { DescMethod } from "@bufbuild/protobuf";
import { type Metadata, ServerInterceptingCall, type ServerInterceptor } from "@grpc/grpc-js";
import { type Caller, nobody } from "#platform/access/caller.ts";
import type { CallerTokens } from "#platform/access/caller-token.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Endpoint } from "#platform/rpc/endpoint.ts";
import { toGrpc } from "#platform/rpc/grpc-errors.ts";

/** How long the request of nobody may take to come whole. */
const REQUEST_MS = 15_000;
/** Requests of nobody that have begun to come: each holds as much memory as a message may have. */
const UNFINISHED_MAX = 64;

export type Admission = {
  /** Stands before all methods: nothing of a request is read until it is known that its caller may call. */
  readonly interceptor: ServerInterceptor;
  /** Whom the call was found to be of. */
  callerOf(metadata: Metadata): Caller;
};

/**
 * Lets in who may call, by the token in `authorization: Bearer …`. What is open to nobody (health, reflection, public methods) has
 * a bound of its own: so many requests at once, each in so much time.
 */
export function admission(
  endpoints: readonly Endpoint[],
  tokens: Pick<CallerTokens, "verify">,
  { requestMs = REQUEST_MS }: { readonly requestMs?: number | undefined } = {},
): Admission {
  const methods = new Map<string, { readonly endpoint: Endpoint; readonly method: DescMethod }>(
    endpoints.flatMap((endpoint) =>
      endpoint.service.methods.map((method) => [`/${endpoint.service.typeName}/${method.name}`, { endpoint, method }]),
    ),
  );
  const callers = new WeakMap<Metadata, Caller>();
  let unfinished = 0;
  return {
    callerOf: (metadata) => callers.get(metadata) ?? nobody,
    interceptor({ path }, call) {
      let finished = (): void => {};
      const refuse = (error: unknown): void => {
        finished();
        call.sendStatus(toGrpc(error));
      };
      const begin = (): void => {
        if (unfinished >= UNFINISHED_MAX)
          throw new CallError("UNAVAILABLE", "overloaded", "Too many strangers call; try again later.", { retryAfterMs: 1_000 });
        unfinished += 1;
        const late = setTimeout(
          () => refuse(new CallError("DEADLINE_EXCEEDED", "deadline_exceeded", "The request took too long to come.")),
          requestMs,
        );
        finished = () => {
          finished = () => {};
          clearTimeout(late);
          unfinished -= 1;
        };
      };
      const admit = async (metadata: Metadata): Promise<void> => {
        const called = methods.get(path);
        const caller = called === undefined ? nobody : await verified(metadata, tokens);
        called?.endpoint.admit(called.method, caller);
        if (caller.kind === "nobody") begin();
        callers.set(metadata, caller);
      };
      return new ServerInterceptingCall(call, {
        start: (next) =>
          next({
            onReceiveMetadata: (metadata, receive) => void admit(metadata).then(() => receive(metadata), refuse),
            onReceiveMessage(message, receive) {
              finished();
              receive(message);
            },
            onReceiveHalfClose(receive) {
              finished();
              receive();
            },
            onCancel: () => finished(),
          }),
      });
    },
  };
}

async function verified(metadata: Metadata, tokens: Pick<CallerTokens, "verify">): Promise<Caller> {
  const sent = metadata.get("authorization");
  if (sent.length === 0) return nobody;
  const token = sent.length === 1 ? /^Bearer +(\S+)$/i.exec(String(sent[0]))?.[1] : undefined;
  if (token === undefined)
    throw new CallError("UNAUTHENTICATED", "unauthenticated", "Say `authorization: Bearer` and a caller token, once.");
  return tokens.verify(token);
}
