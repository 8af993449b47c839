import { hash } from "node:crypto";
import type { Message } from "@bufbuild/protobuf";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { HttpBody } from "#contracts/google/api/httpbody_pb.ts";
import { type Cache, Cache_Scope } from "#contracts/polis/options/v1/options_pb.ts";
import type { Edge } from "#platform/rest/edge.ts";
import { fieldToJson, messageToJson } from "#platform/rest/json.ts";
import type { Binding } from "#platform/rest/routes.ts";

/** Names and values in turn, as `writeHead` takes them with the least work. */
type Headers = string[];

/** What every answer carries. The policy is for answers that a browser shows as a page: files that users sent among them. */
export function answerHeaders({ id, exchange }: FastifyRequest): Record<string, string> {
  const headers: Record<string, string> = { "x-request-id": id, ...SECURITY_HEADERS, ...PAGE_HEADERS };
  // What the router refuses has no exchange.
  const more: string[] = [];
  (exchange as FastifyRequest["exchange"] | undefined)?.pushHeaders(more);
  for (let n = 0; n < more.length; n += 2) headers[more[n] as string] = more[n + 1] as string;
  return headers;
}

const SECURITY_HEADERS = {
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
};
/** Besides, for what a browser may take for a page; JSON, which it doesn't, is spared their cost. */
const PAGE_HEADERS = {
  "cross-origin-opener-policy": "same-origin",
  "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
};
const PAGE_HEADERS_FLAT = Object.entries(PAGE_HEADERS).flat();
const SECURITY_HEADERS_FLAT = Object.entries(SECURITY_HEADERS).flat();

/** Sends a call's answer with the method's status: JSON, bytes, or nothing. */
export function sendAnswer(edge: Edge, binding: Binding, answer: Message, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { options } = binding;
  const headers = ["x-request-id", request.id, ...SECURITY_HEADERS_FLAT];
  request.exchange.pushHeaders(headers);
  if (binding.rawResponse) headers.push(...PAGE_HEADERS_FLAT);
  if (options.cache === undefined) headers.push("cache-control", "no-store");
  const location = locationIn(binding, answer);
  if (location !== undefined) return write(reply, 303, [...headers, "location", location, "content-length", "0"], undefined);
  if (options.httpStatus === 204) return write(reply, 204, headers, undefined);
  const { type, data } = bodyOf(edge, binding, answer);
  if (options.cache !== undefined && isKnown(options.cache, edge.identity.header, data, request, headers))
    return write(reply, 304, headers, undefined);
  headers.push("content-type", type, "content-length", String(Buffer.byteLength(data)));
  return write(reply, options.httpStatus, headers, data);
}

/** Where the contract sends the client instead of answering it. */
function locationIn({ options: { redirect } }: Binding, answer: Message): string | undefined {
  return redirect === undefined ? undefined : (answer as unknown as Record<string, string>)[redirect.localName] || undefined;
}

type Body = { readonly type: string; readonly data: string | Uint8Array };

function bodyOf({ registry }: Edge, binding: Binding, answer: Message): Body {
  const { responseBody, method, rawResponse } = binding;
  if (rawResponse) {
    const { contentType, data } = httpBodyOf(binding, answer);
    return { type: contentType || "application/octet-stream", data };
  }
  const data = responseBody === undefined ? messageToJson(method.output, answer, registry) : fieldToJson(responseBody, answer, registry);
  return { type: "application/json; charset=utf-8", data };
}

export function httpBodyOf({ responseBody }: Binding, answer: Message): Pick<HttpBody, "contentType" | "data"> {
  if (responseBody === undefined) return answer as HttpBody;
  return (answer as unknown as Record<string, HttpBody | undefined>)[responseBody.localName] ?? { contentType: "", data: new Uint8Array() };
}

/** What the contract lets be cached gets an ETag; whether the client has that already. */
function isKnown(cache: Cache, callerHeader: string, body: Body["data"], request: FastifyRequest, headers: Headers): boolean {
  const etag = `"${hash("sha256", body, "base64url").slice(0, 22)}"`;
  const scope = cache.scope === Cache_Scope.PUBLIC ? "public" : "private";
  headers.push("etag", etag, "cache-control", `${scope}, max-age=${cache.ttl?.seconds ?? 0n}`);
  if (scope === "private") headers.push("vary", callerHeader);
  const known = request.headers["if-none-match"];
  return known?.split(",").some((tag) => tag.trim().replace(/^W\//, "") === etag || tag.trim() === "*") === true;
}

/** Writes past Fastify's own sending, whose headers and hooks cost 8 % of a small request. */
function write(reply: FastifyReply, status: number, headers: Headers, body: Body["data"] | undefined): FastifyReply {
  // First: it throws where a header can't be sent (the type of a file is the service's), and that is still answered.
  reply.raw.writeHead(status, headers);
  reply.hijack();
  reply.raw.end(body);
  return reply;
}
