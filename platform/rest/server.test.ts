import { once } from "node:events";
import { connect } from "node:net";
import { describe, expect, test, vi } from "vitest";
import { thing, thingId, things, userId } from "#platform/rest/things.testing.ts";

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

test("a connection that sends on without waiting for answers has a hundred requests under way, and is closed at the next", async () => {
  const release = Promise.withResolvers<void>();
  const { url, received } = await things({
    unary: {
      GetThing: async () => {
        await release.promise;
        return thing();
      },
    },
  });
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname).setEncoding("utf8");
  const request = `GET /things/${thingId} HTTP/1.1\r\nHost: x\r\nX-User-Id: ${userId}\r\n\r\n`;
  socket.write(request.repeat(300));
  await vi.waitFor(() => expect(received).toHaveLength(100));
  release.resolve();
  let answers = "";
  for await (const part of socket) answers += part;
  // One after the other they may be as many as one likes.
  const patient = connect(Number(port), hostname).setEncoding("utf8");
  for (let n = 0; n < 150; n++) {
    patient.write(request);
    expect((await once(patient, "data"))[0]).toMatch(/^HTTP\/1\.1 200/);
  }
  patient.destroy();
  const statuses = [...answers.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status);
  expect(statuses).toEqual([...Array(100).fill("200"), "429"]);
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

test("closing cuts off what isn't answered once it has waited its time, and tells the handler", async () => {
  const { call, server, received } = await things(
    { unary: { GetThing: () => new Promise(() => {}) } },
    { drainMs: 30, timeoutMs: 600_000, timeoutMaxMs: 600_000 },
  );
  const answer = call("GET", `/things/${thingId}`);
  answer.catch(() => undefined);
  await vi.waitFor(() => expect(received).toHaveLength(1));
  await server.close();
  await expect(answer).rejects.toThrow();
  await vi.waitFor(() => expect(received[0]?.call.cancellation?.cancelled).toBe(true));
});
