import { connect } from "node:net";
import type { Message } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { thing, thingId, things, userId } from "#platform/rest/things.testing.ts";
import { CallError } from "#platform/rpc/call-error.ts";

/** Sends bytes as they are and gives all that comes back. */
const raw = (url: string, text: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(url).port), "127.0.0.1", () => socket.write(text));
    let answer = "";
    socket.on("data", (data) => {
      answer += data.toString();
    });
    socket.on("close", () => resolve(answer));
    socket.on("error", reject);
  });

describe("what HTTP refuses", () => {
  test.each([
    ["GET", "/nowhere", 404, "route_not_found"],
    ["GET", "/things/", 404, "route_not_found"],
    ["PUT", "/docs/../etc/passwd", 404, "route_not_found"],
    ["GET", "/docs/package.json", 404, "route_not_found"],
    ["GET", "/things/%zz", 400, "malformed_url"],
    ["GET", "/things/%ff", 400, "malformed_url"],
  ])("%s %s is %i %s", async (method, path, status, code) => {
    const { call } = await things();
    const answer = await call(method, path);
    expect(answer.headers.get("content-type")).toMatch(/^application\/problem\+json/);
    expect(answer.problem()).toMatchObject({
      type: "about:blank",
      status,
      code,
      requestId: answer.headers.get("x-request-id"),
      errors: [],
    });
    expect(answer.status).toBe(status);
  });

  test("a wrong method is told which ones are right", async () => {
    const { call } = await things();
    const answer = await call("PUT", "/things");
    expect(answer.problem()).toMatchObject({ status: 405, code: "method_not_allowed" });
    expect(answer.headers.get("allow")).toBe("GET, HEAD, POST");
    expect((await call("DELETE", "/healthz")).headers.get("allow")).toBe("GET, HEAD");
    expect((await call("POST", "/things:watch")).headers.get("allow")).toBe("GET");
  });

  test.each([
    ["QUERY", "/things", {}, undefined, 405],
    ["QUERY", "/nowhere", {}, undefined, 404],
    ["POST", "/nowhere", { "content-type": "application/json" }, "{", 404],
    ["POST", "/nowhere", { "content-type": "application/json" }, '{"__proto__":1}', 404],
    ["POST", "/nowhere", { "content-type": "application/xml" }, "<a/>", 404],
    ["POST", "/nowhere", { "content-type": "nonsense" }, "a", 404],
    ["POST", "/things", { "content-type": "nonsense" }, "a", 415],
  ] as const)("%s %s with %j and the body %s is the client's mistake, and none of ours", async (method, path, headers, body, status) => {
    const { call, logged } = await things();
    const answer = await call(method, path, { headers, ...(body === undefined ? {} : { body: Buffer.from(body) }) });
    expect(answer.status).toBe(status);
    expect(answer.problem()).toMatchObject({
      status,
      code: { 404: "route_not_found", 405: "method_not_allowed", 415: "unsupported_media_type" }[status],
    });
    if (status === 405) expect(answer.headers.get("allow")).toBe("GET, HEAD, POST");
    expect(logged).toEqual([]);
  });

  test("a body of another type, another charset, compressed or over the limit", async () => {
    const { call, send, received } = await things({}, { bodyLimitBytes: 1000 });
    expect((await call("POST", "/things", { body: "amount=1" })).problem()).toMatchObject({ status: 415, code: "unsupported_media_type" });
    expect((await send("POST", "/things", "{}", { "content-type": "application/json; charset=utf-16" })).status).toBe(415);
    expect((await send("POST", "/things", "{}", { "content-encoding": "gzip" })).status).toBe(415);
    expect((await send("POST", "/things", `{"currency":"${"x".repeat(1000)}"}`)).problem()).toMatchObject({
      status: 413,
      code: "body_too_large",
    });
    expect(received).toEqual([]);
    expect((await send("POST", "/things", "{}", { "content-type": "application/json; charset=UTF-8" })).status).toBe(201);
  });

  test.each([
    ["whole, by its length", "/things", "Content-Type: application/json\r\nContent-Length: 9000"],
    ["whole, as it comes", "/things", "Content-Type: application/json\r\nTransfer-Encoding: chunked"],
    ["as a stream", "/things:import", "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked"],
  ])("a body over the limit that is read %s is the last of its connection: nobody reads on", async (_, path, headers) => {
    const upload = async (_method: unknown, requests: AsyncIterable<Message>) => {
      for await (const _request of requests);
      return thing();
    };
    const { url } = await things({ upload }, { bodyLimitBytes: 1000 });
    // It never ends, and the client doesn't close either.
    const begun = `POST ${path} HTTP/1.1\r\nHost: x\r\nX-User-Id: ${userId}\r\n${headers}\r\n\r\n800\r\n${"x".repeat(0x800)}\r\n`;
    expect(await raw(url, begun)).toMatch(/^HTTP\/1\.1 413 [\s\S]*\r\nconnection: close\r\n[\s\S]*"code":"body_too_large"/i);
  });

  test("what isn't HTTP, a head that is too large, and a request that doesn't arrive", async () => {
    const { url } = await things({}, { requestTimeoutMs: 200 });
    expect(await raw(url, "NONSENSE\r\n\r\n")).toMatch(/^HTTP\/1\.1 400 Bad Request[\s\S]*"code":"malformed_request"/);
    expect(await raw(url, `GET / HTTP/1.1\r\nHost: x\r\nX: ${"y".repeat(20_000)}\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 431 [\s\S]*"code":"headers_too_large"/,
    );
    const begun = `POST /things HTTP/1.1\r\nHost: x\r\nX-User-Id: ${userId}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{`;
    expect(await raw(url, begun)).toMatch(/^HTTP\/1\.1 408 [\s\S]*"code":"request_timeout"/);
  });
});

describe("an error of a call", () => {
  test.each([
    ["INVALID_ARGUMENT", 400],
    ["UNAUTHENTICATED", 401],
    ["PERMISSION_DENIED", 403],
    ["NOT_FOUND", 404],
    ["ALREADY_EXISTS", 409],
    ["FAILED_PRECONDITION", 409],
    ["RESOURCE_EXHAUSTED", 429],
    ["UNIMPLEMENTED", 501],
    ["UNAVAILABLE", 503],
    ["DEADLINE_EXCEEDED", 504],
  ] as const)("%s is %i, with its code, text and fields", async (status, http) => {
    const violations = [{ field: "amount", rule: "int64.gt", message: "must be more" }];
    const { call } = await things({
      unary: { ListThings: () => Promise.reject(new CallError(status, "some_code", "Some text.", { violations, retryAfterMs: 1500 })) },
    });
    const answer = await call("GET", "/things");
    expect(answer.status).toBe(http);
    expect(answer.headers.get("retry-after")).toBe("2");
    expect(answer.problem()).toMatchObject({ status: http, code: "some_code", detail: "Some text.", errors: violations });
  });

  test("a 503 says when to try again, whether or not whoever was away did", async () => {
    const { call } = await things({
      unary: { ListThings: () => Promise.reject(new CallError("UNAVAILABLE", "unavailable", "The service can't be reached.")) },
    });
    const answer = await call("GET", "/things");
    expect([answer.status, answer.headers.get("retry-after")]).toEqual([503, "1"]);
  });

  test("what is away is told to the log with its cause, once and not with every request", async () => {
    const { call, logged } = await things({
      unary: {
        ListThings: () =>
          Promise.reject(new CallError("UNAVAILABLE", "unavailable", "It's away.", { cause: new Error("refused by 10.0.0.7") })),
      },
    });
    for (let i = 0; i < 5; i++) expect((await call("GET", "/things")).text).not.toContain("10.0.0.7");
    const warnings = logged.map((line) => JSON.parse(line)).filter(({ level }) => level === 40);
    expect(warnings).toMatchObject([{ err: { message: "refused by 10.0.0.7" }, msg: "a request needed what is away" }]);
  });

  test("a fault is 500 without its cause, which goes to the log", async () => {
    const violations = [{ field: "secret_field", rule: "string.uuid", message: "must be none of the client's business" }];
    const { call, logged } = await things({
      unary: {
        ListThings: () => Promise.reject(new Error("password=hunter2")),
        GetThing: () =>
          Promise.reject(new CallError("INTERNAL", "internal", "secret text", { violations, cause: new Error("password=hunter2") })),
      },
    });
    for (const path of ["/things", `/things/${thingId}`]) {
      const answer = await call("GET", path);
      expect(answer.problem()).toMatchObject({ status: 500, code: "internal", detail: "Something went wrong on our side.", errors: [] });
      expect(answer.text).not.toMatch(/hunter2|secret/);
    }
    const told = logged.filter((line) => line.includes("hunter2")).map((line) => JSON.parse(line));
    // By the request that the answer names, and by the trace under which a service tells the rest.
    const names = { requestId: expect.any(String), traceparent: expect.stringMatching(/^00-/) };
    expect(told).toMatchObject([names, names]);
  });
});
