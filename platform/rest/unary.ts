import { hash } from "node:crypto";
import type { Message } from "@bufbuild/protobuf";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { HttpBody } from "#contracts/google/api/httpbody_pb.ts";
import { Cache_Scope } from "#contracts/polis/options/v1/options_pb.ts";
import { type Edge, type Matched, startCall } from "#platform/rest/edge.ts";
import { fieldToJson, messageToJson, readJson } from "#platform/rest/json.ts";
import { asClientWrote, RawBody, requestMessage } from "#platform/rest/request-message.ts";
import type { Binding } from "#platform/rest/routes.ts";

/** Answers one request by one call. */
export async function serveUnary(edge: Edge, matched: Matched, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { binding } = matched;
  const call = await startCall(edge, binding, request);
  const message = requestMessage(binding, { ...matched, body: bodyOf(binding, request) }, edge.registry);
  let answer: Message;
  try {
    answer = await edge.transportFor(binding.method.parent).unary(binding.method, message, call);
  } catch (error) {
    throw asClientWrote(error, binding);
  }
  return sendAnswer(edge, binding, answer, request, reply);
}

function bodyOf(binding: Binding, request: FastifyRequest): RawBody | ReturnType<typeof readJson> | undefined {
  const bytes = request.body as Buffer | undefined;
  if (binding.rawRequest) return new RawBody(request.headers["content-type"] ?? "application/octet-stream", bytes ?? new Uint8Array());
  return bytes === undefined || bytes.length === 0 ? undefined : readJson(bytes);
}

/** Sends a call's answer with the method's status: JSON, bytes, or nothing. */
export function sendAnswer(edge: Edge, binding: Binding, answer: Message, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  reply.code(binding.options.httpStatus);
  if (binding.options.httpStatus === 204) return reply.header("cache-control", "no-store").send();
  if (binding.rawResponse) {
    const { contentType, data } = httpBodyOf(binding, answer);
    return cached(edge, binding, data, request, reply.header("content-type", contentType || "application/octet-stream"));
  }
  const { responseBody, method } = binding;
  const text =
    responseBody === undefined ? messageToJson(method.output, answer, edge.registry) : fieldToJson(responseBody, answer, edge.registry);
  return cached(edge, binding, text, request, reply.header("content-type", "application/json"));
}

export function httpBodyOf({ responseBody }: Binding, answer: Message): Pick<HttpBody, "contentType" | "data"> {
  if (responseBody === undefined) return answer as HttpBody;
  return (answer as unknown as Record<string, HttpBody | undefined>)[responseBody.localName] ?? { contentType: "", data: new Uint8Array() };
}

/** What the contract lets be cached gets an ETag, and 304 where the client has it already; all else is not stored. */
function cached(edge: Edge, { options }: Binding, body: string | Uint8Array, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { cache } = options;
  if (cache === undefined) return reply.header("cache-control", "no-store").send(body);
  const etag = `"${hash("sha256", body, "base64url").slice(0, 22)}"`;
  const scope = cache.scope === Cache_Scope.PUBLIC ? "public" : "private";
  reply.header("etag", etag).header("cache-control", `${scope}, max-age=${cache.ttl?.seconds ?? 0n}`);
  if (scope === "private") reply.header("vary", edge.identity.header);
  const known = request.headers["if-none-match"];
  const isKnown = known?.split(",").some((tag) => tag.trim().replace(/^W\//, "") === etag || tag.trim() === "*");
  return isKnown ? reply.code(304).removeHeader("content-type").send() : reply.send(body);
}
