import type { Message } from "@bufbuild/protobuf";
import type { FastifyReply, FastifyRequest } from "fastify";
import { sendAnswer } from "#platform/rest/answers.ts";
import { type Edge, startCall } from "#platform/rest/edge.ts";
import { readJson } from "#platform/rest/json.ts";
import { asClientWrote, RawBody, requestMessage } from "#platform/rest/request-message.ts";
import type { Binding, Matched } from "#platform/rest/routes.ts";

/** Answers one request by one call. */
export async function serveUnary(edge: Edge, matched: Matched, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { binding } = matched;
  const call = startCall(edge, binding, request);
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
