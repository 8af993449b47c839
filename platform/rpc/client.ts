import type { DescMessage, DescService, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { CallOptions } from "#platform/rpc/context.ts";

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
