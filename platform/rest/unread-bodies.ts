import type { IncomingMessage, ServerResponse } from "node:http";
import type { FastifyInstance } from "fastify";

/** As much as most bodies may have. */
const UNREAD_BYTES_MAX = 1024 * 1024;
const WATCH_MS = 20;

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

/**
 * Once a request is answered, what of its body still comes is read in vain: up to so much, so that its sender has time to read the
 * answer, and may go on with the next request. Then the connection ends.
 */
export function boundUnread(request: IncomingMessage): void {
  if (request.complete) return;
  const { socket } = request;
  const readBefore = socket.bytesRead;
  // Node reads it past the request, and tells nobody.
  const watch = setInterval(() => {
    if (socket.bytesRead - readBefore > UNREAD_BYTES_MAX) socket.destroy();
    if (request.complete || socket.destroyed) clearInterval(watch);
  }, WATCH_MS);
  watch.unref();
}
