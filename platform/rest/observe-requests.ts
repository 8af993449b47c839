import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ClientAddress } from "#platform/edge/client-address.ts";
import { Exchange, routeOf } from "#platform/rest/exchange.ts";
import type { LatencyRecorder } from "#platform/telemetry/latency.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

type Tools = { readonly log: Log; readonly metrics: Metrics; readonly addressOf: ClientAddress };

/** Begins the exchange of every request, and measures and logs its end. */
export function observeRequests(server: FastifyInstance, { log, metrics, addressOf }: Tools): void {
  const durations = metrics.latency("polis_http_request_duration_seconds", "Time from a request's head to the end of its answer.", [
    "method",
    "route",
    "status",
  ]);
  const recorders = new Map<string, LatencyRecorder>();
  const answered = (request: FastifyRequest, reply: FastifyReply) => {
    const { id: requestId, method } = request;
    const route = routeOf(request);
    // 499: the client had gone before its answer was complete.
    const status = reply.raw.writableFinished ? reply.statusCode : 499;
    const key = `${method} ${status} ${route}`;
    let recorder = recorders.get(key);
    if (recorder === undefined) {
      recorder = durations.recorder({ method, route, status: String(status) });
      recorders.set(key, recorder);
    }
    const ms = reply.elapsedTime;
    recorder.observe(ms / 1000);
    log.debug({ requestId, method, route, status, ms, address: request.exchange.address }, "answered");
  };
  // Set by the hook, before anything reads it.
  server.decorateRequest("exchange");
  server.addHook("onRequest", (request, reply, done) => {
    Exchange.begin(request, reply, { address: addressOf(request.raw), onEnd: answered });
    done();
  });
}
