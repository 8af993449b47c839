import type { FastifyReply, FastifyRequest } from "fastify";
import { type Caller, nobody } from "#platform/access/caller.ts";
import { pushQuotas, type Quota } from "#platform/edge/quota.ts";
import type { Place } from "#platform/edge/shedding.ts";
import type { Matched } from "#platform/rest/routes.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Cancellable, Dependant } from "#platform/rpc/cancellation.ts";
import type { Span } from "#platform/telemetry/tracing.ts";

declare module "fastify" {
  interface FastifyRequest {
    exchange: Exchange;
  }
  interface FastifyContextConfig {
    template?: string;
  }
}

/**
 * One request and its answer. What is called for it hangs on it: when the client goes before its answer is complete, or the
 * server closes, all of that is given up.
 */
export class Exchange implements Cancellable {
  /** The binding that was met, and what of it the address holds. */
  matched: Matched | undefined;
  caller: Caller = nobody;
  /** The client's. */
  readonly address: string;
  /** General limits spare it. */
  isSpared = false;
  /** How the limits stand that it was counted by. */
  quotas: Quota[] | undefined;
  /** What every answer to it says besides, names and values in turn. */
  headers: readonly string[] = [];
  /** Where it is worked on. */
  place: Place | undefined;
  span: Span | undefined;
  /** Why it failed by our fault: for the span. */
  fault: unknown;
  #givenUp: CallError | undefined;
  #dependants: Set<Dependant> | undefined;

  private constructor(address: string) {
    this.address = address;
  }

  /** Begins with the request's head; `onEnd` is called once, when the answer is complete or the connection gone. */
  static begin(
    request: FastifyRequest,
    reply: FastifyReply,
    { address, onEnd }: { readonly address: string; onEnd(request: FastifyRequest, reply: FastifyReply): void },
  ): Exchange {
    const exchange = new Exchange(address);
    request.exchange = exchange;
    // Fastify's onResponse doesn't come where the client has gone before its answer began.
    reply.raw.once("close", () => {
      if (!reply.raw.writableFinished) exchange.giveUp(new CallError("CANCELLED", "cancelled", "The client has gone."));
      exchange.place?.leave();
      onEnd(request, reply);
      exchange.span?.end(exchange.fault);
    });
    return exchange;
  }

  /** Adds those, and how its limits stand, to the headers of an answer. */
  pushHeaders(headers: string[]): void {
    for (const part of this.headers) headers.push(part);
    if (this.quotas !== undefined) pushQuotas(this.quotas, headers);
  }

  get cancelled(): boolean {
    return this.#givenUp !== undefined;
  }

  /** Why it was given up. */
  get givenUp(): CallError | undefined {
    return this.#givenUp;
  }

  giveUp(reason: CallError): void {
    if (this.#givenUp !== undefined) return;
    this.#givenUp = reason;
    for (const dependant of this.#dependants ?? []) dependant.cancel();
  }

  add(dependant: Dependant): void {
    this.#dependants ??= new Set();
    this.#dependants.add(dependant);
  }

  remove(dependant: Dependant): void {
    this.#dependants?.delete(dependant);
  }
}

/** The request's route, for logs and metrics: addresses themselves hold ids. What isn't a method's has the address that it was registered under. */
export function routeOf(request: FastifyRequest): string {
  const { matched } = request.exchange;
  if (matched !== undefined) return matched.binding.template.text;
  // Where no binding was met. Asked for only then: Fastify makes this object with every look.
  const { routeOptions } = request;
  return routeOptions.config?.template ?? routeOptions.url ?? "none";
}
