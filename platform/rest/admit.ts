import type { FastifyRequest } from "fastify";
import { type Edge, meet } from "#platform/rest/edge.ts";
import type { Matched } from "#platform/rest/routes.ts";

/** Lets a request in that has met a binding: where there is room, whoever may call, and no oftener than limits allow. Throws, or rejects, else. */
export function admit(edge: Edge, matched: Matched, request: FastifyRequest): void | Promise<void> {
  const { protection } = edge;
  if (protection === undefined) return meet(edge, matched, request);
  const { method } = matched.binding;
  return then(protection.enter(method, request), () => then(meet(edge, matched, request), () => protection.meetCaller(method, request)));
}

/** At once where nothing is waited for: most requests don't. */
const then = (first: void | Promise<void>, next: () => void | Promise<void>): void | Promise<void> =>
  first instanceof Promise ? first.then(next) : next();
