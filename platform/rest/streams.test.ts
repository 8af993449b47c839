import { create, type Message } from "@bufbuild/protobuf";
import { describe, expect, test, vi } from "vitest";
import {
  type ImportThingsRequest,
  ImportThingsResponseSchema,
  type UploadRequest,
  UploadResponseSchema,
} from "#contracts/polis/resttest/v1/resttest_pb.ts";
import { type Answers, httpBody, startThings, thing, userId } from "#platform/rest/things.testing.ts";
import { CallError } from "#platform/rpc/call-error.ts";

async function things(answers: Answers, options: Parameters<typeof startThings>[1] = {}) {
  const started = await startThings(answers, options);
  const call = (path: string, init: RequestInit = {}) =>
    fetch(started.url + path, { ...init, headers: { "x-user-id": userId, ...(init.headers as Record<string, string>) } });
  return { ...started, call };
}

const lines = (text: string) =>
  text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

async function* count(to: number, end?: Error): AsyncGenerator<Message> {
  for (let i = 1; i <= to; i++) yield thing({ amount: BigInt(i) });
  if (end !== undefined) throw end;
}

/** Yields once and then waits until it is given up. */
async function* endless(call: Parameters<NonNullable<Answers["stream"]>>[2], onEnd: () => void): AsyncGenerator<Message> {
  try {
    yield thing();
    await new Promise((_resolve, reject) =>
      call.cancellation?.add({ cancel: () => reject(new CallError("CANCELLED", "cancelled", "given up")) }),
    );
  } finally {
    onEnd();
  }
}

/** Yields so many times, then waits; knows nothing of cancellation and ends by `return` alone. */
function onlyByReturn(message: Message, times: number) {
  const end = Promise.withResolvers<IteratorResult<Message>>();
  const stream = {
    asked: 0,
    returned: 0,
    next: () => (++stream.asked <= times ? Promise.resolve({ done: false as const, value: message }) : end.promise),
    return() {
      stream.returned++;
      end.resolve({ done: true, value: undefined });
      return end.promise;
    },
    [Symbol.asyncIterator]: () => stream,
  };
  return stream;
}

describe("a stream of answers", () => {
  test("is a message a line", async () => {
    const { call } = await things({ stream: () => count(3) });
    const answer = await call("/things:watch?count=3");
    expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "application/x-ndjson"]);
    expect(lines(await answer.text()).map(({ amount }) => amount)).toEqual(["1", "2", "3"]);
  });

  test("is an event each where the client accepts events", async () => {
    const { call } = await things({ stream: () => count(2, new CallError("UNAVAILABLE", "unavailable", "away")) });
    const answer = await call("/things:watch", { headers: { accept: "text/event-stream" } });
    expect(answer.headers.get("content-type")).toBe("text/event-stream");
    const events = (await answer.text()).trimEnd().split("\n\n");
    expect(events.slice(0, 2).map((event) => JSON.parse(event.replace(/^data: /, "")).amount)).toEqual(["1", "2"]);
    expect(events[2]).toMatch(/^event: error\ndata: \{.*"code":"unavailable"/);
  });

  test("that fails before its first message has a status of its own", async () => {
    const { call } = await things({ stream: () => count(0, new CallError("PERMISSION_DENIED", "forbidden", "no")) });
    const answer = await call("/things:watch");
    expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([403, "forbidden"]);
  });

  test("that fails on its way says so in its last line, without a fault's cause", async () => {
    const { call } = await things({ stream: () => count(1, new Error("password=hunter2")) });
    const answer = await call("/things:watch", { headers: { "x-request-id": "r1" } });
    const [first, last] = lines(await answer.text());
    expect(first).toMatchObject({ amount: "1" });
    expect(last).toEqual({
      error: {
        type: "about:blank",
        title: "Internal Server Error",
        status: 500,
        detail: "Something went wrong on our side.",
        code: "internal",
        requestId: "r1",
        errors: [],
      },
    });
  });

  test("is opened though it is silent", async () => {
    const gate = Promise.withResolvers<void>();
    const { call } = await things({
      stream: async function* () {
        await gate.promise;
        yield thing();
      },
    });
    const answer = await call("/things:watch");
    expect(answer.status).toBe(200);
    gate.resolve();
    expect(lines(await answer.text())).toHaveLength(1);
  });

  test("is read no faster than the client reads", async () => {
    let made = 0;
    const { call } = await things({
      stream: async function* () {
        for (; made < 100_000; made++) yield thing({ description: "x".repeat(1000) });
      },
    });
    const answer = await call("/things:watch");
    const reader = answer.body?.getReader();
    await reader?.read();
    let before = -1;
    await vi.waitFor(
      () => {
        const now = made;
        const isStill = now === before;
        before = now;
        expect(isStill).toBe(true);
      },
      { timeout: 5000, interval: 100 },
    );
    expect(made).toBeLessThan(50_000);
    await reader?.cancel();
  });

  test("ends when its client goes", async () => {
    const ended = vi.fn();
    const { call } = await things({ stream: (_method, _request, given) => endless(given, ended) });
    const abort = new AbortController();
    const answer = await call("/things:watch", { signal: abort.signal });
    expect(answer.status).toBe(200);
    abort.abort();
    await vi.waitFor(() => expect(ended).toHaveBeenCalledOnce());
  });

  test.each(["/things:watch", "/things:export"])(
    "ends its handler when its reader goes, also where that ends by `return` alone: %s",
    async (path) => {
      const waiting = onlyByReturn(path === "/things:watch" ? thing() : httpBody("text/csv", "a"), 1);
      const { call } = await things({ stream: () => waiting });
      const abort = new AbortController();
      expect((await call(path, { signal: abort.signal })).status).toBe(200);
      await vi.waitFor(() => expect(waiting.asked).toBe(2));
      expect(waiting.returned).toBe(0);
      abort.abort();
      await vi.waitFor(() => expect(waiting.returned).toBeGreaterThan(0));
    },
  );

  test("ends its handler when its reader goes while the stream waits for the reader", async () => {
    const endless = onlyByReturn(thing({ description: "x".repeat(10_000) }), Number.POSITIVE_INFINITY);
    const { call } = await things({ stream: () => endless });
    const abort = new AbortController();
    const answer = await call("/things:watch", { signal: abort.signal });
    await answer.body?.getReader().read();
    let before = -1;
    await vi.waitFor(
      () => {
        const isStill = endless.asked === before;
        before = endless.asked;
        expect(isStill).toBe(true);
      },
      { timeout: 5000, interval: 100 },
    );
    abort.abort();
    await vi.waitFor(() => expect(endless.returned).toBeGreaterThan(0));
  });

  test("ends its handler when its reader goes before the first message, which is long in coming", async () => {
    const silent = onlyByReturn(thing(), 0);
    const { call } = await things({ stream: () => silent });
    const abort = new AbortController();
    const answer = call("/things:export", { signal: abort.signal });
    await vi.waitFor(() => expect(silent.asked).toBe(1));
    abort.abort();
    await expect(answer).rejects.toThrow();
    await vi.waitFor(() => expect(silent.returned).toBeGreaterThan(0));
  });

  test("that is given up and ends at once is not taken for complete", async () => {
    const { call, server } = await things({ stream: () => onlyByReturn(thing(), 1) });
    const text = (await call("/things:watch")).text();
    await server.close();
    expect(lines(await text).at(-1)).toMatchObject({ error: { code: "shutting_down" } });
    const bytes = await things({ stream: () => onlyByReturn(httpBody("text/csv", "a"), 1) });
    const torn = (await bytes.call("/things:export")).text();
    await bytes.server.close();
    await expect(torn).rejects.toThrow();
  });

  test("is told when the server closes, which doesn't wait for it", async () => {
    const ended = vi.fn();
    const { call, server } = await things({ stream: (_method, _request, given) => endless(given, ended) });
    const answer = await call("/things:watch");
    const text = answer.text();
    const startedMs = performance.now();
    await server.close();
    // Nor for its connection, which is kept alive.
    expect(performance.now() - startedMs).toBeLessThan(5000);
    expect(lines(await text).at(-1)).toMatchObject({ error: { status: 503, code: "shutting_down" } });
    expect(ended).toHaveBeenCalledOnce();
  });

  test("of bytes is one file, and is cut where it fails, so that a part is not taken for the whole", async () => {
    const pieces = async function* (end?: Error): AsyncGenerator<Message> {
      yield httpBody("text/csv", "a,b\n");
      yield httpBody("", "1,2\n");
      if (end !== undefined) throw end;
    };
    const whole = await things({ stream: () => pieces() });
    const answer = await whole.call("/things:export");
    expect([answer.headers.get("content-type"), await answer.text()]).toEqual(["text/csv", "a,b\n1,2\n"]);
    const torn = await things({ stream: () => pieces(new CallError("UNAVAILABLE", "unavailable", "away")) });
    await expect(torn.call("/things:export").then((response) => response.text())).rejects.toThrow();
  });
});

describe("a stream of requests", () => {
  const imported: ImportThingsRequest[] = [];
  const upload: NonNullable<Answers["upload"]> = async (_method, requests) => {
    imported.length = 0;
    for await (const request of requests) imported.push(request as ImportThingsRequest);
    return create(ImportThingsResponseSchema, { importedCount: BigInt(imported.length) });
  };
  const ndjson = { "content-type": "application/x-ndjson" };

  test("is a message a line, however the lines are cut on their way", async () => {
    const { call } = await things({ upload });
    const text = '{"name":"a","amount":"1"}\r\n\n{"name":"б","amount":2}\n{"name":"c"}';
    const bytes = Buffer.from(text);
    const body = new ReadableStream({
      start(controller) {
        for (const byte of bytes) controller.enqueue(new Uint8Array([byte]));
        controller.close();
      },
    });
    const answer = await call("/things:import", { method: "POST", body, headers: ndjson, duplex: "half" } as RequestInit);
    expect([answer.status, await answer.json()]).toEqual([201, { importedCount: "3" }]);
    expect(imported.map(({ name, amount }) => [name, amount])).toEqual([
      ["a", 1n],
      ["б", 2n],
      ["c", 0n],
    ]);
  });

  test.each([
    ['{"name":"a"}\n{"name":', 400, "invalid_json", /^Line 2: /],
    ['{"nam":"a"}\n', 400, "validation_failed", /^Line 1: /],
    [`{"name":"${"x".repeat(2000)}"}\n`, 413, "body_too_large", /line/],
  ])("with a line that is at fault is told so: %s", async (body, status, code, detail) => {
    const { call } = await things({ upload }, { bodyLimitBytes: 1000 });
    const answer = await call("/things:import", { method: "POST", body, headers: ndjson });
    expect(answer.status).toBe(status);
    expect(await answer.json()).toMatchObject({ code, detail: expect.stringMatching(detail) });
  });

  test("of another type, or over its limit, is refused", async () => {
    const { call } = await things({ upload }, { uploadLimitBytes: 100 });
    expect((await call("/things:import", { method: "POST", body: "[]", headers: { "content-type": "application/json" } })).status).toBe(
      415,
    );
    expect((await call("/things:import", { method: "POST", body: '{"name":"a"}\n'.repeat(20), headers: ndjson })).status).toBe(413);
  });

  test("takes a file in pieces, of any type, an empty one as well", async () => {
    const { call } = await things({
      upload: async (_method, requests) => {
        let bytes = 0;
        let last: UploadRequest | undefined;
        for await (const request of requests) {
          last = request as UploadRequest;
          bytes += last.content?.data.length ?? 0;
        }
        return create(UploadResponseSchema, {
          fileId: last?.fileId ?? "none",
          contentType: last?.content?.contentType ?? "",
          bytesCount: BigInt(bytes),
        });
      },
    });
    const put = async (body: Uint8Array<ArrayBuffer> | string) =>
      (await call("/uploads/f1", { method: "PUT", body, headers: { "content-type": "application/json" } })).json();
    expect(await put(new Uint8Array(3_000_000))).toEqual({ fileId: "f1", contentType: "application/json", bytesCount: "3000000" });
    expect(await put("")).toEqual({ fileId: "f1", contentType: "application/json", bytesCount: "0" });
  });

  test("may be answered before it is read", async () => {
    const { call } = await things({ upload: () => Promise.reject(new CallError("UNAUTHENTICATED", "unauthenticated", "who?")) });
    expect((await call("/things:import", { method: "POST", body: '{"name":"a"}\n'.repeat(10_000), headers: ndjson })).status).toBe(401);
  });
});
