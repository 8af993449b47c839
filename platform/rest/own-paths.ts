import type { FastifyInstance, FastifyReply } from "fastify";
import { answerHeaders } from "#platform/rest/answers.ts";
import { serveDocs } from "#platform/rest/docs-page.ts";
import { type DocumentInput, openApi } from "#platform/rest/openapi.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

export type Health = {
  /** Whether the process is to be kept. */
  live(): boolean;
  /** Whether requests may be sent here; `checks` tells of each part. */
  ready(): Promise<{ ready: boolean; checks: Readonly<Record<string, unknown>> }>;
};

/** What a process answers by itself: health, metrics, and the documentation. */
export function serveOwnPaths(
  server: FastifyInstance,
  { health, metrics, info, services, identity }: Omit<DocumentInput, "bindings"> & { readonly health: Health; readonly metrics: Metrics },
  bindings: DocumentInput["bindings"],
): void {
  server.addHook("onRequest", (request, reply, done) => {
    reply.headers(answerHeaders(request));
    done();
  });
  const noStore = (reply: FastifyReply) => reply.header("cache-control", "no-store");
  server.get("/", (request, reply) =>
    request.headers.accept?.includes("text/html") === true
      ? reply.redirect("/docs")
      : noStore(reply).send({ title: info.title, version: info.version, docs: "/docs", openapi: "/swagger/doc.json" }),
  );
  server.get("/healthz", (_request, reply) => {
    const isLive = health.live();
    return noStore(reply)
      .code(isLive ? 200 : 503)
      .send({ status: isLive ? "ok" : "failing" });
  });
  server.get("/readyz", async (_request, reply) => {
    const { ready, checks } = await health.ready();
    return noStore(reply)
      .code(ready ? 200 : 503)
      .send({ ready, checks });
  });
  server.get("/metrics", async (_request, reply) =>
    noStore(reply)
      .type(metrics.contentType)
      .send(await metrics.text()),
  );
  let document: string | undefined;
  server.get("/swagger/doc.json", (_request, reply) => {
    document ??= JSON.stringify(openApi({ bindings, services, info, identity }));
    return reply.header("cache-control", "no-cache").type("application/json").send(document);
  });
  serveDocs(server, info.title);
}
