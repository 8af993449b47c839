import { connect } from "node:net";
import { create, equals, fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { afterEach, describe, expect, test, vi } from "vitest";
import {
  type CancelThingRequest,
  type CreateThingRequest,
  type EchoRequest,
  EchoResponseSchema,
  type GetNamedRequest,
  GetNamedResponseSchema,
  ListNamesResponseSchema,
  ListThingsRequestSchema,
  type ReplaceThingRequest,
  TakeWebhookResponseSchema,
  type UpdateThingRequest,
} from "#contracts/polis/resttest/v1/resttest_pb.ts";
import type { Problem } from "#platform/rest/problem.ts";
import { type Answers, httpBody, startThings, thing, thingId, userId } from "#platform/rest/things.testing.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { parseTraceparent } from "#platform/telemetry/trace-context.ts";
import { passingTracer, type Tracer } from "#platform/telemetry/tracing.ts";

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

async function things(answers: Answers = {}, options: Parameters<typeof startThings>[1] = {}) {
  const started = await startThings(answers, options);
  open.push(started.server);
  const call = async (method: string, path: string, init: RequestInit = {}) => {
    const response = await fetch(started.url + path, {
      method,
      ...init,
      headers: { "x-user-id": userId, ...(init.headers as Record<string, string>) },
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      text,
      json: () => JSON.parse(text) as Record<string, unknown>,
      problem: () => JSON.parse(text) as Problem,
    };
  };
  const send = (method: string, path: string, body: unknown, headers: Record<string, string> = {}) =>
    call(method, path, {
      body: typeof body === "string" ? body : JSON.stringify(body),
      headers: { "content-type": "application/json", ...headers },
    });
  return { ...started, call, send, last: <T>() => started.received.at(-1)?.request as T };
}

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

describe("a route", () => {
  test("takes its body as the request and answers with the method's status, zero values written and amounts as strings", async () => {
    const { send, last, received } = await things({ unary: { CreateThing: () => thing({ amount: 0n }) } });
    const answer = await send("POST", "/things", { amount: "9223372036854775807", currency: "RUB" });
    expect(answer.status).toBe(201);
    expect(answer.headers.get("content-type")).toBe("application/json; charset=utf-8");
    expect(answer.json()).toEqual({ id: thingId, userId, amount: "0", currency: "RUB", status: "NEW", labels: [], notes: {} });
    expect(last<CreateThingRequest>()).toMatchObject({ amount: 2n ** 63n - 1n, currency: "RUB", description: "" });
    expect(received[0]?.call.caller).toMatchObject({ kind: "user", userId });
  });

  test("takes path variables, also nested ones and those of an additional binding", async () => {
    const { call, last } = await things();
    await call("GET", `/things/${thingId}?owner.strict=true`);
    expect(last()).toMatchObject({ thingId, owner: { userId: "", strict: true } });
    await call("GET", `/owners/a%2Fb%20c/things/${thingId}`);
    expect(last()).toMatchObject({ thingId, owner: { userId: "a/b c" } });
  });

  test("tells a verb behind a colon from an id", async () => {
    const { call, send, last, received } = await things();
    await call("POST", "/things/a%3Ab:cancel?reason=late");
    expect(last<CancelThingRequest>()).toMatchObject({ thingId: "a:b", reason: "late" });
    await send("POST", "/things:cancel", { thingId: "x", reason: "why" });
    expect(last<CancelThingRequest>()).toMatchObject({ thingId: "x", reason: "why" });
    await call("GET", "/things/some:thing");
    expect(received.at(-1)).toMatchObject({ method: "GetThing", request: { thingId: "some:thing" } });
    expect((await call("POST", "/things/some:other")).status).toBe(405);
  });

  test("matches names of several segments, and keeps an encoded slash told apart", async () => {
    const { call, last } = await things({
      unary: { GetNamed: (request) => create(GetNamedResponseSchema, { name: (request as GetNamedRequest).name }) },
    });
    await call("GET", "/named/shelves/1/books/war%20and%20peace?view=all");
    expect(last()).toMatchObject({ name: "shelves/1/books/war and peace", view: "all" });
    expect((await call("GET", "/files/a/b%2Fc/d.txt")).json()).toEqual({ name: "a/b%2Fc/d.txt" });
    expect((await call("GET", "/files/a/b:describe")).json()).toEqual({ name: "a/b" });
    expect((await call("GET", "/named/shelves/1/books/2/pages")).status).toBe(404);
  });

  test("answers with one field where the contract says so, with a custom method, and with nothing at 204", async () => {
    const { call, received } = await things({ unary: { ListNames: () => create(ListNamesResponseSchema, { names: ["a", "b"] }) } });
    expect((await call("GET", "/names")).json()).toEqual(["a", "b"]);
    expect((await call("PURGE", "/cache")).status).toBe(200);
    expect(received.at(-1)?.method).toBe("PurgeCache");
    const gone = await call("DELETE", `/things/${thingId}?force=true`);
    expect([gone.status, gone.text]).toEqual([204, ""]);
    expect(received.at(-1)?.request).toMatchObject({ thingId, force: true });
  });

  test("answers HEAD as GET without a body", async () => {
    const { call } = await things({ unary: { GetThing: () => thing() } });
    const [get, head] = [await call("GET", `/things/${thingId}`), await call("HEAD", `/things/${thingId}`)];
    expect([head.status, head.text]).toEqual([200, ""]);
    expect(head.headers.get("content-length")).toBe(String(get.text.length));
  });

  test("lets be cached what the contract lets, and answers 304 to who has it", async () => {
    const { call } = await things({ unary: { GetThing: () => thing() } });
    const first = await call("GET", `/things/${thingId}`);
    expect(first.headers.get("cache-control")).toBe("private, max-age=60");
    expect(first.headers.get("vary")).toBe("X-User-Id");
    const again = await call("GET", `/things/${thingId}`, { headers: { "if-none-match": first.headers.get("etag") ?? "" } });
    expect([again.status, again.text]).toEqual([304, ""]);
    expect((await call("GET", "/things")).headers.get("cache-control")).toBe("no-store");
  });
});

describe("a query", () => {
  test("holds proto names or JSON names, nested and repeated fields, enums by name, times, bytes", async () => {
    const { call, last } = await things();
    const query =
      "page_size=7&pageToken=a%2Bb+c&status=USED&statuses=NEW&statuses=GONE&labels=x&labels=y&filter.paid=false&filter.minAmount=9007199254740993" +
      "&filter.ratio=1.5&filter.token=_-8&filter.inner.numbers=1&filter.inner.numbers=2&since=2026-01-31T12:00:00Z&window=1.5s&wrapped=true";
    expect((await call("GET", `/things?${query}`)).status).toBe(200);
    const expected = fromJson(ListThingsRequestSchema, {
      pageSize: 7,
      pageToken: "a+b c",
      status: "USED",
      statuses: ["NEW", "GONE"],
      labels: ["x", "y"],
      filter: { paid: false, minAmount: "9007199254740993", ratio: 1.5, token: "/+8=", inner: { numbers: ["1", "2"] } },
      since: "2026-01-31T12:00:00Z",
      window: "1.5s",
      wrapped: true,
    });
    expect(equals(ListThingsRequestSchema, last(), expected)).toBe(true);
  });

  test("counts an empty value as left out", async () => {
    const { call, last } = await things();
    expect((await call("GET", "/things?page_size=&status=&labels=&filter.paid=&page_token")).status).toBe(200);
    expect(last()).toMatchObject({ pageSize: 0, labels: [] });
    expect(Object.hasOwn(last<object>(), "status")).toBe(false);
  });

  test.each([
    ["nope=1&page_sizes=2", "nope", "unknown_field"],
    ["filter.nope=1", "filter.nope", "unknown_field"],
    ["filter=1", "filter", "unknown_field"],
    ["not_in_queries=1", "not_in_queries", "unknown_field"],
    ["__proto__=1", "__proto__", "unknown_field"],
    ["page_size.x=1", "page_size.x", "unknown_field"],
    ["page_size=1.5", "page_size", "not_an_integer"],
    ["page_size=many", "page_size", "wrong_type"],
    ["page_size=2147483648", "page_size", "out_of_range"],
    ["page_size=1&page_size=2", "page_size", "duplicate_field"],
    ["page_size=1&pageSize=2", "pageSize", "duplicate_field"],
    ["status=LOST", "status", "unknown_enum_value"],
    ["statuses=NEW&statuses=LOST", "statuses[1]", "unknown_enum_value"],
    ["filter.paid=yes", "filter.paid", "wrong_type"],
    ["since=yesterday", "since", "invalid_timestamp"],
  ])("%s is refused by name: %s, %s", async (query, field, rule) => {
    const { call, received } = await things();
    const answer = await call("GET", `/things?${query}`);
    expect(answer.status).toBe(400);
    expect(answer.problem()).toMatchObject({
      code: "validation_failed",
      errors: expect.arrayContaining([expect.objectContaining({ field, rule })]),
    });
    expect(received).toEqual([]);
  });

  test("can't name what path or body holds, nor break its encoding", async () => {
    const { call, send } = await things();
    expect((await call("GET", `/things/${thingId}?thing_id=x`)).problem().errors).toMatchObject([
      { field: "thing_id", rule: "unknown_field" },
    ]);
    expect((await send("POST", "/things?amount=1", { amount: 1 })).problem().errors).toMatchObject([
      { field: "amount", rule: "unknown_field" },
    ]);
    expect((await call("GET", "/things?page_token=%ff")).problem()).toMatchObject({ status: 400, code: "invalid_query" });
  });
});

describe("path and body", () => {
  test("may say the same and must not contradict", async () => {
    const { send, last } = await things();
    expect((await send("PUT", `/things/${thingId}`, { thingId, amount: 5 })).status).toBe(200);
    expect(last<ReplaceThingRequest>()).toMatchObject({ thingId, amount: 5n });
    const other = await send("PUT", `/things/${thingId}`, { thing_id: userId });
    expect(other.problem()).toMatchObject({ status: 400, errors: [{ field: "thingId", rule: "path_mismatch" }] });
  });

  test("a field as the body has its paths begin there, also those that the service names", async () => {
    const refusal = new CallError("INVALID_ARGUMENT", "validation_failed", "no", {
      violations: [{ field: "thing.amount", rule: "int64.gt", message: "no" }],
    });
    const { send } = await things({ unary: { UpdateThing: () => Promise.reject(refusal) } });
    expect((await send("PATCH", "/things/x", { amount: true })).problem().errors).toMatchObject([{ field: "amount", rule: "wrong_type" }]);
    expect((await send("PATCH", "/things/x", { amount: 1 })).problem().errors).toMatchObject([{ field: "amount", rule: "int64.gt" }]);
  });

  test("PATCH derives its mask from what the body names, and takes one from the query instead", async () => {
    const { send, last } = await things();
    await send("PATCH", "/things/x", { amount: "0", description: null, dimensions: { width: 3 }, notes: { a: "b" } });
    expect(last<UpdateThingRequest>().updateMask?.paths).toEqual(["amount", "description", "dimensions.width", "notes"]);
    expect(last<UpdateThingRequest>().thing).toMatchObject({ id: "x", amount: 0n });
    await send("PATCH", "/things/x?update_mask=created_at,dimensions.width", { amount: "1" });
    expect(last<UpdateThingRequest>().updateMask?.paths).toEqual(["created_at", "dimensions.width"]);
  });
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

  test("what isn't HTTP, a head that is too large, and a request that doesn't arrive", async () => {
    const { url } = await things({}, { requestTimeoutMs: 200 });
    expect(await raw(url, "NONSENSE\r\n\r\n")).toMatch(/^HTTP\/1\.1 400 Bad Request[\s\S]*"code":"malformed_request"/);
    expect(await raw(url, `GET / HTTP/1.1\r\nHost: x\r\nX: ${"y".repeat(20_000)}\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 431 [\s\S]*"code":"headers_too_large"/,
    );
    expect(await raw(url, "POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{")).toMatch(
      /^HTTP\/1\.1 408 [\s\S]*"code":"request_timeout"/,
    );
  });
});

describe("what a call says", () => {
  test("request ids are taken where well-formed, made otherwise, and always told", async () => {
    const { call } = await things();
    expect((await call("GET", "/nowhere", { headers: { "x-request-id": "abc-1" } })).problem().requestId).toBe("abc-1");
    const made = (await call("GET", "/things", { headers: { "x-request-id": "a b<script>" } })).headers.get("x-request-id");
    expect(made).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7/);
  });

  test("a keyed method gets the client's key or one of ours; a key that is none is refused", async () => {
    const { send, received } = await things();
    await send("POST", "/things", { amount: 1 }, { "idempotency-key": "order-7" });
    await send("POST", "/things", { amount: 1 });
    await send("PUT", "/things/x", {});
    expect(received.map(({ call }) => call.idempotencyKey)).toEqual(["order-7", expect.stringMatching(/^[0-9a-f-]{13}-7/), undefined]);
    for (const key of ["", "a b", "x".repeat(256)])
      expect((await send("POST", "/things", { amount: 1 }, { "idempotency-key": key })).problem()).toMatchObject({
        status: 400,
        code: "invalid_idempotency_key",
      });
    expect((await send("POST", "/things", { amount: 1 }, { "idempotency-key": "x".repeat(255) })).status).toBe(201);
  });

  test("the trace goes on, or begins here, under a span that ends with the answer and knows of our faults", async () => {
    const ended: unknown[] = [];
    const tracer: Tracer = {
      start(name, parent, attributes) {
        const span = passingTracer.start(name, parent);
        return { traceparent: span.traceparent, end: (error) => ended.push([name, attributes, (error as CallError | undefined)?.code]) };
      },
      shutdown: async () => {},
    };
    const unavailable = () => Promise.reject(new CallError("UNAVAILABLE", "unavailable", "away"));
    const { call, received } = await things(
      { unary: { GetThing: unavailable, DeleteThing: () => Promise.reject(new CallError("NOT_FOUND", "not_found", "none")) } },
      { tracer },
    );
    const client = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    await call("GET", "/things", { headers: { traceparent: client } });
    await call("GET", "/things", { headers: { traceparent: `00-${"0".repeat(32)}-b7ad6b7169203331-01` } });
    expect(received[0]?.call.traceparent).toBe(client);
    expect(parseTraceparent(received[1]?.call.traceparent)?.traceId).not.toBe(parseTraceparent(client)?.traceId);
    await call("GET", "/things/x");
    await call("DELETE", "/things/x");
    const attributes = (method: string, route: string) => ({ "http.request.method": method, "http.route": route });
    await vi.waitFor(() =>
      expect(ended.slice(1)).toEqual([
        ["GET /things", attributes("GET", "/things"), undefined],
        ["GET /things/{thing_id}", attributes("GET", "/things/{thing_id}"), "unavailable"],
        ["DELETE /things/{thing_id}", attributes("DELETE", "/things/{thing_id}"), undefined],
      ]),
    );
  });

  test("X-User-Id names the caller in small letters; without it nobody calls; one that is no uuid is 401", async () => {
    const { url, received } = await things();
    await fetch(`${url}/things`, { headers: { "x-user-id": userId.toUpperCase() } });
    await fetch(`${url}/things`);
    expect(received.map(({ call }) => call.caller)).toMatchObject([{ kind: "user", userId }, { kind: "nobody" }]);
    const answer = await fetch(`${url}/things`, { headers: { "x-user-id": "me" } });
    expect([answer.status, answer.headers.get("www-authenticate")]).toEqual([401, 'Header name="X-User-Id"']);
    expect(await answer.json()).toMatchObject({ code: "invalid_user_id" });
  });

  test("a deadline is ten seconds, or what the client asks for within a bound", async () => {
    const { call, received } = await things({}, { timeoutMaxMs: 30_000 });
    const startedMs = Date.now();
    for (const seconds of ["0.5", "900"]) await call("GET", "/things", { headers: { "request-timeout": seconds } });
    await call("GET", "/things");
    const tookMs = Date.now() - startedMs;
    for (const [index, timeoutMs] of [500, 30_000, 10_000].entries()) {
      const givenMs = (received[index]?.call.deadlineMs ?? 0) - startedMs - timeoutMs;
      expect(givenMs).toBeGreaterThanOrEqual(0);
      expect(givenMs).toBeLessThanOrEqual(tookMs);
    }
    expect((await call("GET", "/things", { headers: { "request-timeout": "soon" } })).problem().code).toBe("invalid_request_timeout");
  });

  test("a client that goes gives its call up", async () => {
    const cancelled = vi.fn();
    const { url, received, metrics } = await things({
      unary: {
        ListThings: (_request, call) =>
          new Promise((_resolve, reject) => {
            call.cancellation?.add({
              cancel() {
                cancelled();
                reject(new CallError("CANCELLED", "cancelled", "gone"));
              },
            });
          }),
      },
    });
    const abort = new AbortController();
    const answer = fetch(`${url}/things`, { signal: abort.signal });
    await vi.waitFor(() => expect(received).toHaveLength(1));
    abort.abort();
    await expect(answer).rejects.toThrow();
    await vi.waitFor(() => expect(cancelled).toHaveBeenCalledOnce());
    await vi.waitFor(async () => expect(await metrics.text()).toContain('route="/things",status="499"'));
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

  test("a fault is 500 without its cause, which goes to the log", async () => {
    const { call, logged } = await things({
      unary: {
        ListThings: () => Promise.reject(new Error("password=hunter2")),
        GetThing: () => Promise.reject(new CallError("INTERNAL", "internal", "secret text", { cause: new Error("password=hunter2") })),
      },
    });
    for (const path of ["/things", `/things/${thingId}`]) {
      const answer = await call("GET", path);
      expect(answer.problem()).toMatchObject({ status: 500, code: "internal", detail: "Something went wrong on our side." });
      expect(answer.text).not.toMatch(/hunter2|secret/);
    }
    expect(logged.filter((line) => line.includes("hunter2"))).toHaveLength(2);
  });
});

describe("bytes", () => {
  test("of bytes whose type no header can hold is a fault of ours", async () => {
    const { call } = await things({ unary: { Download: () => httpBody("text/csv\r\nx-evil: 1", "a"), GetThing: () => thing() } });
    const answer = await call("GET", "/downloads/a");
    expect([answer.status, answer.problem().code, answer.headers.get("x-evil")]).toEqual([500, "internal", null]);
    expect((await call("GET", `/things/${thingId}`)).status).toBe(200);
  });

  test("an HttpBody answer is sent as it is, and an HttpBody request is taken as it comes", async () => {
    const { call, last } = await things({
      unary: {
        Download: () => httpBody("text/html", "<script>1</script>"),
        TakeWebhook: () => create(TakeWebhookResponseSchema, { bytesCount: 3n }),
      },
    });
    const file = await call("GET", "/downloads/a%2Fb.html");
    expect([file.text, file.headers.get("content-type")]).toEqual(["<script>1</script>", "text/html"]);
    expect(file.headers.get("content-security-policy")).toContain("sandbox");
    expect(last()).toMatchObject({ file: "a/b.html" });
    const body = new Uint8Array([0xff, 0, 0x7b]);
    expect((await call("POST", "/webhooks", { body, headers: { "content-type": "application/json" } })).json()).toEqual({
      contentType: "",
      bytesCount: "3",
    });
    expect(last()).toMatchObject({ contentType: "application/json" });
    expect([...last<{ data: Uint8Array }>().data]).toEqual([...body]);
  });
});

describe("the edge's own addresses", () => {
  test("tell of health, metrics and themselves", async () => {
    const { call } = await things(
      {},
      { health: { live: () => true, ready: async () => ({ ready: false, checks: { postgres: "away" } }) } },
    );
    expect((await call("GET", "/healthz")).status).toBe(200);
    const ready = await call("GET", "/readyz");
    expect([ready.status, ready.json()]).toEqual([503, { ready: false, checks: { postgres: "away" } }]);
    await call("GET", `/things/${thingId}`);
    expect((await call("GET", "/metrics")).text).toMatch(
      /polis_http_request_duration_seconds_count\{method="GET",route="\/things\/\{thing_id\}",status="200"\} 1/,
    );
    expect((await call("GET", "/", { headers: { accept: "application/json" } })).json()).toMatchObject({ title: "Things", docs: "/docs" });
  });

  test("/docs is a page without scripts of its own, whose files are served here", async () => {
    const { call } = await things();
    const page = await call("GET", "/docs");
    expect(page.headers.get("content-security-policy")).toContain("script-src 'self'");
    expect(page.text).not.toMatch(/<script(?![^>]* src=)|\son\w+=|https?:\/\//);
    const files = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1] ?? "");
    expect(files).toHaveLength(4);
    for (const file of files) expect((await call("GET", file)).status).toBe(200);
  });

  test("every answer says how browsers are to treat it", async () => {
    const { call } = await things({
      stream: async function* () {
        yield thing();
      },
    });
    for (const path of ["/things", "/nowhere", "/docs", "/healthz", "/things/%zz", "/things:watch"]) {
      const { headers } = await call("GET", path, { headers: { "x-request-id": "r1" } });
      expect(headers.get("x-content-type-options"), path).toBe("nosniff");
      expect(headers.get("content-security-policy"), path).toContain("default-src 'none'");
      expect(headers.get("x-request-id"), path).toBe("r1");
    }
  });
});

test("a request that is refused before its body is read is measured under its route as well", async () => {
  const { call, metrics } = await things();
  await call("POST", "/things", { body: "<a/>", headers: { "content-type": "text/xml" } });
  await call("POST", "/nowhere/secret-7");
  await vi.waitFor(async () => expect(await metrics.text()).toContain('_count{method="POST",route="/things",status="415"} 1'));
  expect(await metrics.text()).toMatch(/_count\{method="POST",route="none",status="404"\} 1/);
});

test("closing waits for what is being answered, and for nothing else", async () => {
  const gate = Promise.withResolvers<void>();
  const { call, server, received } = await things({
    unary: {
      GetThing: async () => {
        await gate.promise;
        return thing();
      },
    },
  });
  const answer = call("GET", `/things/${thingId}`);
  await vi.waitFor(() => expect(received).toHaveLength(1));
  const closed = server.close();
  gate.resolve();
  expect((await answer).status).toBe(200);
  const answeredMs = performance.now();
  await closed;
  // And no longer, though the connection is kept alive.
  expect(performance.now() - answeredMs).toBeLessThan(5000);
  await expect(fetch(server.url ?? "")).rejects.toThrow();
});

test("a message of every kind of field comes back as it was sent", async () => {
  const { send } = await things({
    unary: { Echo: (request) => create(EchoResponseSchema, { everything: (request as EchoRequest).everything }) },
  });
  const everything = {
    int64Value: "-9223372036854775808",
    doubleValue: "NaN",
    bytesValue: "AAEC",
    enumValue: "GONE",
    textChoice: "x",
    struct: { a: [1, null, { b: "c" }] },
    int64Wrapper: "7",
    duration: "1.500s",
  };
  const { json } = await send("POST", "/echo", { everything });
  expect(json().everything).toMatchObject(everything);
  const sent = fromJson(EchoResponseSchema, { everything });
  expect(toJson(EchoResponseSchema, fromJson(EchoResponseSchema, json() as JsonValue))).toEqual(toJson(EchoResponseSchema, sent));
});
