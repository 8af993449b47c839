import type { DescMethod } from "@bufbuild/protobuf";
import { type Metadata, ServerInterceptingCall, type ServerInterceptor } from "@grpc/grpc-js";
import { type Caller, nobody } from "#platform/access/caller.ts";
import type { CallerTokens } from "#platform/access/caller-token.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { type Timed, unwatch, watch } from "#platform/rpc/deadlines.ts";
import type { Endpoint } from "#platform/rpc/endpoint.ts";
import { toGrpc } from "#platform/rpc/grpc-errors.ts";

/** How long a request may take to come whole, where it isn't a stream of somebody who may send one. */
const REQUEST_MS = 15_000;
/** Requests of nobody that have begun to come: each holds as much memory as a message may have. */
const UNFINISHED_MAX = 128;
/** Of these, from one address. */
const UNFINISHED_OF_ADDRESS_MAX = 16;

export type Admission = {
  /** Stands before all methods: nothing of a request is read until it is known that its caller may call. */
  readonly interceptor: ServerInterceptor;
  /** Whom the call was found to be of. */
  callerOf(metadata: Metadata): Caller;
};

/**
 * Lets in who may call, by the token in `authorization: Bearer …`. A request must have come whole in so much time; and of nobody, who
 * may call what is public, ask for health and read the contracts, so many at once.
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
  const strangers = new Strangers();
  return {
    callerOf: (metadata) => callers.get(metadata) ?? nobody,
    interceptor({ path }, call) {
      const called = methods.get(path);
      let isOver = false;
      let leave = (): void => {};
      const over = (): void => {
        isOver = true;
        unwatch(arrival);
        leave();
      };
      const refuse = (error: unknown): void => {
        over();
        call.sendStatus(toGrpc(error));
      };
      const arrival: Timed = {
        deadlineMs: Date.now() + requestMs,
        expire: () => refuse(new CallError("DEADLINE_EXCEEDED", "deadline_exceeded", "The request took too long to come.")),
      };
      const admit = async (metadata: Metadata): Promise<void> => {
        const caller = called === undefined ? nobody : await verified(metadata, tokens);
        called?.endpoint.admit(called.method, caller);
        if (isOver) return;
        if (caller.kind === "nobody") leave = strangers.enter(call.getPeer());
        if (caller.kind === "nobody" || (called !== undefined && !takesStream(called.method))) watch(arrival);
        callers.set(metadata, caller);
      };
      return new ServerInterceptingCall(call, {
        start: (next) =>
          next({
            onReceiveMetadata: (metadata, receive) => void admit(metadata).then(() => receive(metadata), refuse),
            onReceiveHalfClose(receive) {
              over();
              receive();
            },
            onCancel: over,
          }),
      });
    },
  };
}

const takesStream = ({ methodKind }: DescMethod): boolean => methodKind === "client_streaming" || methodKind === "bidi_streaming";

/** The unfinished requests of nobody. */
class Strangers {
  readonly #byAddress = new Map<string, number>();
  #count = 0;

  /** Gives what ends it. Throws where there are too many. */
  enter(peer: string): () => void {
    const address = peer.slice(0, peer.lastIndexOf(":"));
    const ofAddress = this.#byAddress.get(address) ?? 0;
    if (this.#count >= UNFINISHED_MAX || ofAddress >= UNFINISHED_OF_ADDRESS_MAX)
      throw new CallError("UNAVAILABLE", "overloaded", "Too many strangers call; try again later.", { retryAfterMs: 1_000 });
    this.#count += 1;
    this.#byAddress.set(address, ofAddress + 1);
    let isIn = true;
    return () => {
      if (!isIn) return;
      isIn = false;
      this.#count -= 1;
      const left = (this.#byAddress.get(address) ?? 0) - 1;
      if (left > 0) this.#byAddress.set(address, left);
      else this.#byAddress.delete(address);
    };
  }
}

async function verified(metadata: Metadata, tokens: Pick<CallerTokens, "verify">): Promise<Caller> {
  const sent = metadata.get("authorization");
  if (sent.length === 0) return nobody;
  const token = sent.length === 1 ? /^Bearer +(\S+)$/i.exec(String(sent[0]))?.[1] : undefined;
  if (token === undefined)
    throw new CallError("UNAUTHENTICATED", "unauthenticated", "Say `authorization: Bearer` and a caller token, once.");
  return tokens.verify(token);
}
