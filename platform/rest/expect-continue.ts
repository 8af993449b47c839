import type { ServerResponse } from "node:http";
import type { FastifyInstance } from "fastify";

/** `Expect: 100-continue`: a body is asked for once it is known that the one who would send it may call. Node asks for every one by itself. */
export function askForBodies(server: FastifyInstance): void {
  const waiting = new WeakSet<ServerResponse>();
  server.server.on("checkContinue", (request, response) => {
    // An answer that comes before: whether the body still follows on this connection can't be known.
    response.setHeader("connection", "close");
    waiting.add(response);
    server.server.emit("request", request, response);
  });
  server.addHook("preParsing", (_request, { raw }, _payload, done) => {
    if (waiting.delete(raw)) {
      raw.removeHeader("connection");
      raw.writeContinue();
    }
    done();
  });
}
