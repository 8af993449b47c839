import { hash } from "node:crypto";
import type { Message } from "@bufbuild/protobuf";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { HttpBody } from "#contracts/google/api/httpbody_pb.ts";
import { type Cache, Cache_Scope } from "#contracts/polis/options/v1/options_pb.ts";
import type { Edge } from "#platform/rest/edge.ts";
import { fieldToJson, messageToJson } from "#platform/rest/json.ts";
import type { Binding } from "#platform/rest/routes.ts";

type Headers = Record<string, string>;

/** What every answer carries. The policy is for answers that a browser shows as a page: files that users sent among them. */
export const answerHeaders = (requestId: string): Headers => ({
  "x-request-id": requestId,
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
});

/** Sends a call's answer with the method's status: JSON, bytes, or nothing. */
export function sendAnswer(edge: Edge, binding: Binding, answer: Message, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { options } = binding;
  const headers = answerHeaders(request.id);
  if (options.httpStatus === 204) {
    headers["cache-control"] = "no-store";
    return write(reply, 204, headers);
  }
  const body = bodyOf(edge, binding, answer, headers);
  if (options.cache === undefined) headers["cache-control"] = "no-store";
  else if (isKnown(options.cache, edge.identity.header, body, request, headers)) return write(reply, 304, headers);
  return write(reply, options.httpStatus, headers, body);
}

function bodyOf({ registry }: Edge, binding: Binding, answer: Message, headers: Headers): string | Uint8Array {
  const { responseBody, method, rawResponse } = binding;
  if (rawResponse) {
    const { contentType, data } = httpBodyOf(binding, answer);
    headers["content-type"] = contentType || "application/octet-stream";
    return data;
  }
  headers["content-type"] = "application/json; charset=utf-8";
  return responseBody === undefined ? messageToJson(method.output, answer, registry) : fieldToJson(responseBody, answer, registry);
}

export function httpBodyOf({ responseBody }: Binding, answer: Message): Pick<HttpBody, "contentType" | "data"> {
  if (responseBody === undefined) return answer as HttpBody;
  return (answer as unknown as Record<string, HttpBody | undefined>)[responseBody.localName] ?? { contentType: "", data: new Uint8Array() };
}

/** What the contract lets be cached gets an ETag; whether the client has that already. */
function isKnown(cache: Cache, callerHeader: string, body: string | Uint8Array, request: FastifyRequest, headers: Headers): boolean {
  const etag = `"${hash("sha256", body, "base64url").slice(0, 22)}"`;
  const scope = cache.scope === Cache_Scope.PUBLIC ? "public" : "private";
  headers.etag = etag;
  headers["cache-control"] = `${scope}, max-age=${cache.ttl?.seconds ?? 0n}`;
  if (scope === "private") headers.vary = callerHeader;
  const known = request.headers["if-none-match"];
  return known?.split(",").some((tag) => tag.trim().replace(/^W\//, "") === etag || tag.trim() === "*") === true;
}

/** Writes past Fastify's own sending, whose headers and hooks cost 8 % of a small request. */
function write(reply: FastifyReply, status: number, headers: Headers, body?: string | Uint8Array): FastifyReply {
  if (body === undefined) delete headers["content-type"];
  else headers["content-length"] = String(Buffer.byteLength(body));
  // First: it throws where a header can't be sent (the type of a file is the service's), and that is still answered.
  reply.raw.writeHead(status, headers);
  reply.hijack();
  reply.raw.end(body);
  return reply;
}
