import { METHODS } from "node:http";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { admit } from "#platform/rest/admit.ts";
import type { Edge } from "#platform/rest/edge.ts";
import { matchPath, routerPath } from "#platform/rest/path-template.ts";
import { type HttpFault, httpFault } from "#platform/rest/problem.ts";
import type { Binding, Matched } from "#platform/rest/routes.ts";
import { serveClientStream, serveServerStream } from "#platform/rest/streams.ts";
import { serveUnary } from "#platform/rest/unary.ts";

/** Puts the bindings into Fastify's router. Bodies are read in three ways, each of which is a scope of Fastify's with its own parser. */
export function bindRoutes(server: FastifyInstance, edge: Edge, bindings: readonly Binding[]): void {
  const isStream = ({ method }: Binding) => method.methodKind === "client_streaming";
  const scopes = [
    { takes: (binding: Binding) => !isStream(binding) && !binding.rawRequest, type: "application/json", read: "whole" },
    { takes: (binding: Binding) => !isStream(binding) && binding.rawRequest, type: "*", read: "whole" },
    { takes: isStream, type: "*", read: "stream" },
  ] as const;
  for (const { takes, type, read } of scopes) {
    const groups = groupByRoute(bindings.filter(takes));
    server.register((scope, _options, done) => {
      scope.removeAllContentTypeParsers();
      if (read === "stream") scope.addContentTypeParser(type, (_request, payload, parsed) => parsed(null, payload));
      else
        scope.addContentTypeParser(type, { parseAs: "buffer" }, (request, body, parsed) => {
          const fault = type === "*" ? undefined : encodingFault(request);
          if (fault === undefined) parsed(null, body);
          else parsed(fault);
        });
      for (const group of groups) serveGroup(scope, edge, group);
      done();
    });
  }
}

function encodingFault({ headers }: FastifyRequest): HttpFault | undefined {
  if (headers["content-encoding"] !== undefined && headers["content-encoding"] !== "identity")
    return httpFault("unsupported_media_type", "A body with a Content-Encoding is not read here.");
  const charset = /;\s*charset\s*=\s*"?([^";\s]+)/i.exec(headers["content-type"] ?? "")?.[1];
  return charset === undefined || /^utf-?8$/i.test(charset) ? undefined : httpFault("unsupported_media_type", "The body must be in UTF-8.");
}

type RouteGroup = { readonly httpMethod: string; readonly path: string; readonly bindings: Binding[] };

/** Bindings that differ by their verb alone share a route of Fastify's; those with a verb are tried first. */
function groupByRoute(bindings: readonly Binding[]): RouteGroup[] {
  const groups = new Map<string, RouteGroup>();
  for (const binding of bindings) {
    const path = routerPath(binding.template);
    const key = `${binding.httpMethod} ${path}`;
    const group = groups.get(key) ?? { httpMethod: binding.httpMethod, path, bindings: [] };
    groups.set(key, group);
    if (binding.template.verb === undefined) group.bindings.push(binding);
    else group.bindings.unshift(binding);
  }
  return [...groups.values()];
}

function serveGroup(scope: FastifyInstance, edge: Edge, { httpMethod, path, bindings }: RouteGroup): void {
  const methods = httpMethod === "*" ? scope.supportedMethods : [httpMethod];
  for (const method of methods) {
    if (!METHODS.includes(method)) throw new Error(`${method} ${path}: Node's HTTP knows no such method`);
    if (!scope.supportedMethods.includes(method)) scope.addHttpMethod(method, { hasBody: true });
  }
  const route = bindings.at(-1)?.template.text ?? path;
  scope.route({
    method: methods,
    url: path,
    exposeHeadRoute: bindings.every(({ method }) => method.methodKind === "unary"),
    config: { template: route },
    onRequest: (request, reply, done) => {
      try {
        const matched = match(bindings, request);
        if (matched === undefined) return void reply.callNotFound();
        const meeting = admit(edge, matched, request);
        if (meeting instanceof Promise) meeting.then(() => done(), done);
        else done();
      } catch (error) {
        done(error as Error);
      }
    },
    // It has been met by then.
    handler: (request, reply) => serve(edge, request.exchange.matched as Matched, request, reply),
  });
}

function match(bindings: readonly Binding[], request: FastifyRequest): Matched | undefined {
  const { rawPath, rawQuery } = splitUrl(request.raw.url ?? "/");
  for (const binding of bindings) {
    const pathValues = matchPath(binding.template, rawPath);
    if (pathValues !== undefined) return { binding, pathValues, rawQuery };
  }
  return undefined;
}

function serve(edge: Edge, matched: Matched, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  switch (matched.binding.method.methodKind) {
    case "server_streaming":
      return serveServerStream(edge, matched, request, reply);
    case "client_streaming":
      return serveClientStream(edge, matched, request, reply);
    default:
      return serveUnary(edge, matched, request, reply);
  }
}

/** The path and the query of a request's target, both still percent-encoded. */
export function splitUrl(url: string): { rawPath: string; rawQuery: string } {
  // The absolute form (`GET http://host/path`) is for proxies and allowed to all.
  const relative = url.startsWith("/") ? url : url.replace(/^[a-z]+:\/\/[^/?#]*/i, "");
  const hash = relative.indexOf("#");
  const whole = hash === -1 ? relative : relative.slice(0, hash);
  const at = whole.indexOf("?");
  return at === -1 ? { rawPath: whole || "/", rawQuery: "" } : { rawPath: whole.slice(0, at) || "/", rawQuery: whole.slice(at + 1) };
}
