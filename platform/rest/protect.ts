import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Protection } from "#platform/edge/protection.ts";
import { allowedMethods } from "#platform/rest/answer-errors.ts";
import { answerHeaders } from "#platform/rest/answers.ts";
import { splitUrl } from "#platform/rest/bind-routes.ts";
import type { Binding } from "#platform/rest/routes.ts";

/** Who asks these asks for the operator, and must be answered whatever else goes on. */
const ALWAYS_ANSWERED = new Set(["/healthz", "/readyz", "/metrics"]);

/** Before all else, by a request's head and its address: also what has no route is counted. */
export function protect(server: FastifyInstance, protection: Protection, bindings: readonly Binding[]): void {
  server.addHook("onRequest", (request, reply, done) => {
    const { raw, exchange } = request;
    exchange.headers = protection.headersFor(raw.headers);
    if ((raw.method === "GET" || raw.method === "HEAD") && ALWAYS_ANSWERED.has(raw.url ?? "")) return done();
    try {
      const meeting = protection.meetAddress(request);
      if (answersPreflight(protection, bindings, request, reply)) return;
      if (meeting instanceof Promise) meeting.then(() => done(), done);
      else done();
    } catch (error) {
      done(error as Error);
    }
  });
}

function answersPreflight({ cors }: Protection, bindings: readonly Binding[], request: FastifyRequest, reply: FastifyReply): boolean {
  const { method, headers, url } = request.raw;
  if (cors === undefined || !cors.isPreflight(method ?? "", headers)) return false;
  const methods = [...allowedMethods(splitUrl(url ?? "/").rawPath, bindings)].sort();
  if (methods.length === 0) return false;
  reply
    .code(204)
    .headers({ ...answerHeaders(request), ...cors.preflight(methods) })
    .send();
  return true;
}
