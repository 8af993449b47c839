import type { ServerResponse } from "node:http";
import type { FastifyInstance, FastifyRequest } from "fastify";

/** So much of a body that nobody reads is taken in, and the connection kept. */
const DRAINED_BYTES_MAX = 64 * 1024;

/**
 * `Expect: 100-continue`: a body is asked for once it is known that the one who would send it may call. Node asks for every one by
 * itself, and ends the connection after an answer to a request whose body wasn't asked for.
 */
export function askForBodies(server: FastifyInstance): void {
  const waiting = new WeakSet<ServerResponse>();
  server.server.on("checkContinue", (request, response) => {
    waiting.add(response);
    server.server.emit("request", request, response);
  });
  server.addHook("preParsing", (_request, { raw }, _payload, done) => {
    if (waiting.delete(raw)) raw.writeContinue();
    done();
  });
}

/** Whether an answer now must end its connection: what of the body still comes is much, or of any length, and all of it would be read in vain. */
export function leavesMuchUnread({ raw, headers }: FastifyRequest): boolean {
  if (raw.complete) return false;
  const length = headers["content-length"];
  return length === undefined ? headers["transfer-encoding"] !== undefined : Number(length) > DRAINED_BYTES_MAX;
}
