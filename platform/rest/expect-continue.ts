import type { FastifyInstance } from "fastify";

/** `Expect: 100-continue`: a body is asked for once it is known that the one who would send it may call. Node asks for every one by itself. */
export function askForBodies(server: FastifyInstance): void {
  server.server.on("checkContinue", (request, response) => {
    // An answer that comes before: whether the body still follows on this connection can't be known.
    response.setHeader("connection", "close");
    server.server.emit("request", request, response);
  });
  server.addHook("preParsing", ({ headers }, { raw }, _payload, done) => {
    if (headers.expect !== undefined && raw.hasHeader("connection")) {
      raw.removeHeader("connection");
      raw.writeContinue();
    }
    done();
  });
}
