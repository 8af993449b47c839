import { once } from "node:events";
import { connect } from "node:net";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { things, userId } from "#platform/rest/things.testing.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { parseTraceparent } from "#platform/telemetry/trace-context.ts";
import { passingTracer, type Tracer } from "#platform/telemetry/tracing.ts";

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

  test("X-User-Id names the caller in small letters; without it nobody calls, which is for what is public; one that is no uuid is 401", async () => {
    const { url, received } = await things();
    await fetch(`${url}/things`, { headers: { "x-user-id": userId.toUpperCase() } });
    await fetch(`${url}/names`);
    expect(received.map(({ call }) => call.caller)).toMatchObject([{ kind: "user", userId }, { kind: "nobody" }]);
    const unnamed = await fetch(`${url}/things`);
    expect([unnamed.status, await unnamed.json()]).toMatchObject([401, { code: "unauthenticated" }]);
    for (const nobody of ["me", `${userId}, ${userId}`, `${userId},`, `x${userId}`]) {
      const answer = await fetch(`${url}/things`, { headers: { "x-user-id": nobody } });
      expect([answer.status, answer.headers.get("www-authenticate")]).toEqual([401, 'Header name="X-User-Id"']);
      expect(await answer.json()).toMatchObject({ code: "invalid_user_id" });
    }
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

  describe("whose body hasn't come", () => {
    const isLast = (answer: string) => /^connection: close\r$/im.test(answer);
    const json = "Host: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n";
    const begin = async (head: string) => {
      const { url } = await things();
      const { hostname, port } = new URL(url);
      const socket = connect(Number(port), hostname).setEncoding("utf8");
      onTestFinished(() => void socket.destroy());
      socket.write(`${head}\r\n`);
      const read = async () => String((await once(socket, "data"))[0]);
      return { socket, read };
    };

    test.each([
      ["POST /things", 401, ""],
      ["POST /things", 401, "Expect: 100-continue\r\n"],
      ["POST /nowhere", 404, ""],
      ["POST /things:nonsense", 404, ""],
      ["PUT /things", 405, "Expect: 100-continue\r\n"],
    ])("%s is answered with %d by its head where nobody may send it, or it has no way", async (line, status, more) => {
      const { read } = await begin(`${line} HTTP/1.1\r\n${json}${more}`);
      const answer = await read();
      expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
      // Where it waits to be asked for it, whether it still comes can't be known.
      expect(isLast(answer)).toBe(more !== "");
    });

    const chunked = "Host: x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n";
    const chunk = `10000\r\n${"x".repeat(65_536)}\r\n`;

    test("and that comes whole after its answer is no harm to the next request of its connection", async () => {
      const { socket, read } = await begin(`POST /nowhere HTTP/1.1\r\n${chunked}`);
      expect(await read()).toMatch(/^HTTP\/1\.1 404 /);
      for (let n = 0; n < 15; n += 1) socket.write(chunk);
      socket.write("0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
      expect(await read()).toMatch(/^HTTP\/1\.1 200 /);
    });

    test.each(["POST /nowhere", "POST /things", "GET /healthz", "GET /names", "POST /things:import"])(
      "and that never ends is taken in no longer, once %s was answered",
      async (line) => {
        const { socket } = await begin(`${line} HTTP/1.1\r\n${chunked}`);
        const answers: string[] = [];
        await new Promise<void>((resolve) => {
          socket.on("data", (data) => void answers.push(String(data)));
          socket.on("error", () => undefined).on("close", () => resolve());
          const send = (error?: Error | null): void => {
            if (error === undefined || error === null) socket.write(chunk, send);
          };
          socket.once("data", () => send());
        });
        expect(answers[0]).toMatch(/^HTTP\/1\.1 [24]\d\d /);
      },
    );

    test("an older client is never told to go on", async () => {
      const { socket, read } = await begin(`POST /things HTTP/1.0\r\n${json}X-User-Id: ${userId}\r\nExpect: 100-continue\r\n`);
      socket.write("{}");
      expect(await read()).toMatch(/^HTTP\/1\.1 201 /);
    });

    test("and who may send it is told to, where that is waited for", async () => {
      const { socket, read } = await begin(`POST /things HTTP/1.1\r\n${json}X-User-Id: ${userId}\r\nExpect: 100-continue\r\n`);
      expect(await read()).toBe("HTTP/1.1 100 Continue\r\n\r\n");
      socket.write("{}");
      const answer = await read();
      expect(answer).toMatch(/^HTTP\/1\.1 201 /);
      expect(isLast(answer)).toBe(false);
    });
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
    const answer = fetch(`${url}/things`, { headers: { "x-user-id": userId }, signal: abort.signal });
    await vi.waitFor(() => expect(received).toHaveLength(1));
    abort.abort();
    await expect(answer).rejects.toThrow();
    await vi.waitFor(() => expect(cancelled).toHaveBeenCalledOnce());
    await vi.waitFor(async () => expect(await metrics.text()).toContain('route="/things",status="499"'));
  });

  test("that breaks off within its body is nobody's fault here, and reaches nobody", async () => {
    const { url, received, metrics, logged } = await things();
    const { hostname, port } = new URL(url);
    const socket = connect(Number(port), hostname);
    const begun = `POST /things HTTP/1.1\r\nHost: x\r\nX-User-Id: ${userId}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"amou`;
    await new Promise((sent) => socket.write(begun, sent));
    socket.destroy();
    await vi.waitFor(async () => expect(await metrics.text()).toContain('route="/things",status="499"'));
    expect([received, logged]).toEqual([[], []]);
  });
});
