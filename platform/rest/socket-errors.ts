import type { Socket } from "node:net";
import { httpFault, problemAnswer } from "#platform/rest/problem.ts";

const codes = {
  HPE_HEADER_OVERFLOW: "headers_too_large",
  ERR_HTTP_REQUEST_TIMEOUT: "request_timeout",
} as const;

/** Answers what isn't HTTP enough to become a request; then the connection can't be used any more. */
export function answerClientError(error: Error & { code?: string }, socket: Socket, requestId: string): void {
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const code = codes[error.code as keyof typeof codes] ?? "malformed_request";
  const { status, headers, problem } = problemAnswer(httpFault(code), requestId, "");
  const body = JSON.stringify(problem);
  const head = {
    ...headers,
    "content-length": String(Buffer.byteLength(body)),
    "x-request-id": requestId,
    "x-content-type-options": "nosniff",
    connection: "close",
  };
  const lines = Object.entries(head).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${status} ${problem.title}\r\n${lines.join("")}\r\n${body}`);
}
