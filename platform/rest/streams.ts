import { Readable } from "node:stream";
import type { Message } from "@bufbuild/protobuf";
import type { FastifyReply, FastifyRequest } from "fastify";
import { answerHeaders, httpBodyOf, sendAnswer } from "#platform/rest/answers.ts";
import { type Edge, startCall } from "#platform/rest/edge.ts";
import type { Exchange } from "#platform/rest/exchange.ts";
import { fieldToJson, messageToJson, readJson } from "#platform/rest/json.ts";
import { httpFault, problemAnswer } from "#platform/rest/problem.ts";
import { asClientWrote, RawBody, requestMessage } from "#platform/rest/request-message.ts";
import type { Matched } from "#platform/rest/routes.ts";
import { CallError } from "#platform/rpc/call-error.ts";

/** A stream that fails within this time gets a status of its own; one that is silent longer is opened, so that its reader knows. */
const OPEN_AFTER_MS = 250;
/** Proxies cut connections that say nothing. */
const KEEP_ALIVE_MS = 15_000;

/**
 * Answers with many messages: NDJSON, a message a line; Server-Sent Events where the client accepts them; raw bytes where the
 * messages are google.api.HttpBody. An error after the first byte is the last line `{"error": problem}` or the last event `error`;
 * with raw bytes the connection is cut, so that half a file is not taken for a whole.
 */
export async function serveServerStream(edge: Edge, matched: Matched, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { binding } = matched;
  const { exchange } = request;
  const call = startCall(edge, binding, request);
  const body = request.body instanceof Buffer && request.body.length > 0 ? readJson(request.body) : undefined;
  const message = requestMessage(binding, { ...matched, body }, edge.registry);
  edge.streams.add(exchange);
  reply.raw.once("close", () => edge.streams.delete(exchange));
  const answers = edge.transportFor(binding.method.parent).serverStreaming(binding.method, message, call)[Symbol.asyncIterator]();
  // Its generators here may be waiting for a message, and could not end before that comes.
  exchange.add({ cancel: () => endQuietly(answers) });
  const first = answers.next();
  const early = await within(OPEN_AFTER_MS, first).catch((error: unknown) => Promise.reject(asClientWrote(error, binding)));
  reply.code(binding.options.httpStatus).headers({ ...answerHeaders(request), "cache-control": "no-store" });
  if (binding.rawResponse) {
    // Its type is the first message's.
    const opening = early ?? (await first);
    const contentType = opening.done === true ? "" : httpBodyOf(binding, opening.value).contentType;
    reply.header("content-type", contentType || "application/octet-stream");
    return reply.send(Readable.from(rawChunks(matched, exchange, answers, first), { objectMode: false }));
  }
  const isEvents = request.headers.accept?.includes("text/event-stream") === true;
  reply.header("content-type", isEvents ? "text/event-stream" : "application/x-ndjson").header("x-accel-buffering", "no");
  const lines = textLines({ edge, matched, request, isEvents }, answers, first);
  const stream = Readable.from(lines, { objectMode: false, highWaterMark: 16 * 1024 });
  reply.send(stream);
  // The head goes out now, and not with a first message that may be long in coming.
  reply.raw.flushHeaders();
  return reply;
}

type Answers = AsyncIterator<Message>;
type First = Promise<IteratorResult<Message>>;

type TextStream = {
  readonly edge: Edge;
  readonly matched: Matched;
  readonly request: FastifyRequest;
  readonly isEvents: boolean;
};

async function* textLines({ edge, matched: { binding }, request, isEvents }: TextStream, answers: Answers, first: First) {
  const toJson = (message: Message) =>
    binding.responseBody === undefined
      ? messageToJson(binding.method.output, message, edge.registry)
      : fieldToJson(binding.responseBody, message, edge.registry);
  const { exchange } = request;
  let next = first;
  try {
    for (;;) {
      const result = isEvents ? await within(KEEP_ALIVE_MS, next) : await next;
      if (result === undefined) {
        yield ": still here\n\n";
        continue;
      }
      if (result.done === true) {
        if (exchange.givenUp !== undefined) throw exchange.givenUp;
        return;
      }
      yield isEvents ? `data: ${toJson(result.value)}\n\n` : `${toJson(result.value)}\n`;
      next = answers.next();
    }
  } catch (error) {
    const told = exchange.givenUp ?? asClientWrote(error, binding);
    const { problem } = problemAnswer(told, request.id, edge.identity.challenge);
    yield isEvents ? `event: error\ndata: ${JSON.stringify(problem)}\n\n` : `${JSON.stringify({ error: problem })}\n`;
  } finally {
    endQuietly(answers);
  }
}

async function* rawChunks({ binding }: Matched, exchange: Exchange, answers: Answers, first: First) {
  try {
    for (let result = await first; result.done !== true; result = await answers.next()) {
      const { data } = httpBodyOf(binding, result.value);
      if (data.length > 0) yield data;
    }
    if (exchange.givenUp !== undefined) throw exchange.givenUp;
  } finally {
    endQuietly(answers);
  }
}

/** Ends the handler behind a stream. Not awaited: one that waits for its next message would hold up the end. */
function endQuietly(answers: Answers): void {
  answers.return?.().catch(() => {});
}

/** What a promise gives, or undefined when it takes longer. */
async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, ms, undefined);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Takes many messages in one request: a message a line (NDJSON), or a body of bytes in chunks; answers once. */
export async function serveClientStream(edge: Edge, matched: Matched, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { binding } = matched;
  const call = startCall(edge, binding, request);
  const type = request.headers["content-type"] ?? "";
  if (!binding.rawRequest && !/^application\/(?:x-)?(?:ndjson|jsonl)\s*(?:;|$)/i.test(type))
    throw httpFault("unsupported_media_type", "This stream is read as application/x-ndjson.");
  const source = bounded(request.body as Readable | undefined, edge.uploadLimitBytes);
  // A fault of the body is told as it is, whatever the method makes of a stream that broke off.
  let fault: unknown;
  const requests = watch(binding.rawRequest ? rawRequests(edge, matched, source, type) : lineRequests(edge, matched, source), (error) => {
    fault = error;
  });
  let answer: Message;
  try {
    answer = await edge.transportFor(binding.method.parent).clientStreaming(binding.method, requests, call);
  } catch (error) {
    throw fault ?? asClientWrote(error, binding);
  }
  return sendAnswer(edge, binding, answer, request, reply);
}

async function* watch<T>(items: AsyncIterable<T>, onError: (error: unknown) => void): AsyncIterable<T> {
  try {
    yield* items;
  } catch (error) {
    onError(error);
    throw error;
  }
}

async function* bounded(body: Readable | undefined, limitBytes: number): AsyncGenerator<Buffer> {
  if (body === undefined) return;
  let read = 0;
  // The socket must outlive a method that answers before it has read all.
  for await (const chunk of body.iterator({ destroyOnReturn: false })) {
    read += (chunk as Buffer).length;
    if (read > limitBytes) throw httpFault("body_too_large", `The stream is over ${limitBytes} bytes.`);
    yield chunk as Buffer;
  }
}

async function* rawRequests(edge: Edge, matched: Matched, source: AsyncIterable<Buffer>, type: string): AsyncGenerator<Message> {
  let isEmpty = true;
  for await (const chunk of source) {
    isEmpty = false;
    yield requestMessage(matched.binding, { ...matched, body: new RawBody(type || "application/octet-stream", chunk) }, edge.registry);
  }
  // An empty file is a file: its one message says so.
  if (isEmpty)
    yield requestMessage(
      matched.binding,
      { ...matched, body: new RawBody(type || "application/octet-stream", new Uint8Array()) },
      edge.registry,
    );
}

async function* lineRequests(edge: Edge, matched: Matched, source: AsyncIterable<Buffer>): AsyncGenerator<Message> {
  let number = 0;
  for await (const line of lines(source, edge.bodyLimitBytes)) {
    number++;
    if (line.length === 0 || (line.length === 1 && line[0] === 13)) continue;
    try {
      yield requestMessage(matched.binding, { ...matched, body: readJson(line) }, edge.registry);
    } catch (error) {
      throw atLine(number, error);
    }
  }
}

const atLine = (number: number, error: unknown): unknown =>
  error instanceof CallError
    ? new CallError(error.status, error.code, `Line ${number}: ${error.message}`, { violations: error.violations, cause: error })
    : error;

async function* lines(source: AsyncIterable<Buffer>, limitBytes: number): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let length = 0;
  const add = (part: Buffer) => {
    length += part.length;
    if (length > limitBytes) throw httpFault("body_too_large", `A line is over ${limitBytes} bytes.`);
    parts.push(part);
  };
  for await (const chunk of source) {
    let from = 0;
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, from)) {
      add(chunk.subarray(from, at));
      yield Buffer.concat(parts);
      parts = [];
      length = 0;
      from = at + 1;
    }
    if (from < chunk.length) add(chunk.subarray(from));
  }
  if (length > 0) yield Buffer.concat(parts);
}
