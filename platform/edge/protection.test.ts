import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { fileOf } from "#contracts/file-of.testing.ts";
import { methodOptions } from "#platform/contract/method-options.ts";
import { protectedThings, testKv } from "#platform/edge/protection.testing.ts";
import { thing, thingId } from "#platform/rest/things.testing.ts";

const optionsFile = {
  "polis/options/v1/options.proto": readFileSync(join(import.meta.dirname, "../../contracts/polis/options/v1/options.proto"), "utf8"),
};
const kv = await testKv();
const BEHIND_PROXY = { POLIS_PROXIES: "127.0.0.1" };
/** Addresses differ from test to test, so that what one counted isn't the next one's. */
let lastAddress = 0;
const newAddress = (): string => `203.0.113.${++lastAddress}`;
const from = (address: string, more: Record<string, string> = {}): RequestInit => ({ headers: { "x-forwarded-for": address, ...more } });
const user = (n: number): string => `0190b6a0-0000-7000-8000-0000000001${String(n).padStart(2, "0")}`;
const counter = async (metrics: { text(): Promise<string> }, line: string): Promise<number> =>
  Number(
    (await metrics.text())
      .split("\n")
      .find((each) => each.startsWith(`${line} `))
      ?.slice(line.length + 1),
  );

test("requests of one address over its limit get 429 with the time to come again, over all gateways, whoever calls and whatever isn't there", async () => {
  const settings = { ...BEHIND_PROXY, LIMIT_PER_ADDRESS: "5/60s" };
  const [one, other] = [await protectedThings(kv, settings), await protectedThings(kv, settings)];
  const address = newAddress();
  for (const [n, { call }] of [one, other, one, other].entries()) {
    const answer = await call("GET", `/things/${thingId}`, from(address, { "x-user-id": user(n) }));
    expect([answer.status, answer.headers.get("ratelimit-policy"), answer.headers.get("ratelimit")]).toEqual([
      200,
      '"address";q=5;w=60, "caller";q=3000;w=60',
      `"address";r=${4 - n};t=60`,
    ]);
  }
  expect((await one.call("GET", "/nowhere", from(address))).status).toBe(404);
  const refused = await other.call("POST", "/things", from(address));
  expect([refused.status, refused.problem().code, refused.headers.get("ratelimit")]).toEqual([
    429,
    "rate_limited",
    expect.stringMatching(/^"address";r=0;t=[56]\d$/),
  ]);
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(50);
  expect(await counter(other.metrics, 'polis_limited_total{limit="address"}')).toBe(1);
  // Others' addresses, and what the operator asks for, go on.
  expect((await one.call("GET", "/things", from(newAddress()))).status).toBe(200);
  for (const path of ["/healthz", "/readyz", "/metrics"]) {
    const answer = await other.call("GET", path, from(address));
    expect([answer.status, answer.headers.get("ratelimit")], path).toEqual([200, null]);
  }
});

test("a refused request's body isn't read, and nobody is asked who calls", async () => {
  const { call, received } = await protectedThings(kv, { ...BEHIND_PROXY, LIMIT_PER_ADDRESS: "1/60s" });
  const address = newAddress();
  await call("GET", "/things", from(address));
  const refused = await call("POST", "/things", { ...from(address, { "x-user-id": "nonsense" }), body: "{broken" });
  expect([refused.status, refused.problem().code]).toEqual([429, "rate_limited"]);
  expect(received).toHaveLength(1);
});

test("IPv6 is counted by its first 64 bits", async () => {
  const { call } = await protectedThings(kv, { ...BEHIND_PROXY, LIMIT_PER_ADDRESS: "2/60s" });
  const statuses: number[] = [];
  for (const address of ["2001:db8::1", "2001:0db8:0:0::ffff", "2001:db8::2", "2001:db8:0:1::2"])
    statuses.push((await call("GET", "/things", from(address))).status);
  expect(statuses).toEqual([200, 200, 429, 200]);
});

test("a caller has a limit wherever they call from, and nobody's is another's", async () => {
  const { call } = await protectedThings(kv, { ...BEHIND_PROXY, LIMIT_PER_CALLER: "2/60s" });
  const statusOf = async (who: number): Promise<number> =>
    (await call("GET", "/things", from(newAddress(), { "x-user-id": user(who) }))).status;
  expect([await statusOf(20), await statusOf(20), await statusOf(20), await statusOf(21)]).toEqual([200, 200, 429, 200]);
});

test("a method's contract limits it per address before it is asked who calls, per caller, and of all", async () => {
  const { call, metrics } = await protectedThings(kv, { ...BEHIND_PROXY });
  const cancel = async (address: string, who: string): Promise<readonly [number, string | undefined]> => {
    const answer = await call("POST", `/things/${thingId}:cancel`, from(address, { "x-user-id": who }));
    return [answer.status, answer.status === 429 ? (answer.headers.get("ratelimit") ?? "").split(";")[0] : undefined];
  };
  const address = newAddress();
  const taken = [200, undefined];
  for (const who of [30, 30, 30]) expect(await cancel(address, user(who))).toEqual(taken);
  expect(await cancel(address, user(30))).toEqual([429, '"resttest.cancel-thing.caller-60s"']);
  expect(await cancel(address, "nobody we know")).toEqual([401, undefined]);
  expect(await cancel(address, user(31))).toEqual(taken);
  expect(await cancel(address, user(32))).toEqual([429, '"resttest.cancel-thing.address-60s"']);
  for (const who of [33, 34, 35, 36, 37]) expect(await cancel(newAddress(), user(who))).toEqual(taken);
  expect(await cancel(newAddress(), user(38))).toEqual([429, '"resttest.cancel-thing.all-3600s"']);
  expect(await counter(metrics, 'polis_limited_total{limit="resttest.cancel-thing.all-3600s"}')).toBe(1);
});

test("a limit of a contract that makes no sense is named with its method", () => {
  const optionsWith = (limits: string) => () => {
    const text = `syntax = "proto3"; package polis.made.v1; import "polis/options/v1/options.proto"; message M {}
      service MadeService { rpc Do(M) returns (M) { option (polis.options.v1.method) = {idempotency: READ access: {public: true} limits: [${limits}]}; } }`;
    const [method] = fileOf("polis/made/v1/made.proto", text, optionsFile).services[0]?.methods ?? [];
    return method && methodOptions(method);
  };
  const minute = "window: {seconds: 60}";
  for (const [limits, fault] of [
    [`{requests: 1 ${minute}}`, "a limit says for whom"],
    [`{per: ALL ${minute}}`, "its limit per ALL is of 0 requests"],
    ["{per: CALLER requests: 5}", "its limit per CALLER has a `window` of 0 s"],
    [`{per: ADDRESS requests: 5 ${minute}}, {per: ADDRESS requests: 6 ${minute}}`, "two limits per ADDRESS have the same `window`"],
  ] as const)
    expect(optionsWith(limits), fault).toThrow(`polis.made.v1.MadeService/Do: ${fault}`);
});

test("without trusted proxies what X-Forwarded-For says is nobody's address; with them the right-most that isn't theirs is the client's", async () => {
  const origin = async (environment: Record<string, string>, said: string): Promise<string | undefined> => {
    const { call, received } = await protectedThings(kv, environment);
    await call("GET", "/things", from(said));
    return received[0]?.call.origin?.address;
  };
  expect(await origin({}, "198.51.100.9")).toBe("127.0.0.1");
  const trusting = { POLIS_PROXIES: "127.0.0.0/8,10.0.0.0/8" };
  expect(await origin(trusting, "1.1.1.1, 198.51.100.9, 10.1.2.3")).toBe("198.51.100.9");
  expect(await origin(trusting, "198.51.100.9:4711, [::ffff:10.0.0.1]:80")).toBe("198.51.100.9");
  expect(await origin(trusting, "2001:DB8:0::7, 10.1.1.1")).toBe("2001:db8::7");
  expect(await origin(trusting, "198.51.100.9, not an address, 10.1.1.1")).toBe("10.1.1.1");
  expect(await origin(trusting, "")).toBe("127.0.0.1");
});

test("more requests than may be worked on at once get 503 at once, while health is told; so do more of one address", async () => {
  const gate = Promise.withResolvers<void>();
  const waiting = { unary: { GetThing: () => gate.promise.then(() => thing()) } };
  const { call, metrics, received } = await protectedThings(
    kv,
    { ...BEHIND_PROXY, IN_FLIGHT_MAX: "4", IN_FLIGHT_PER_ADDRESS_MAX: "3" },
    waiting,
  );
  const address = newAddress();
  const held = [1, 2, 3].map(() => call("GET", `/things/${thingId}`, from(address)));
  await vi.waitFor(() => expect(received).toHaveLength(3));
  const shed = await call("GET", `/things/${thingId}`, from(address));
  expect([shed.status, shed.problem().code, shed.headers.get("retry-after")]).toEqual([503, "overloaded", "1"]);
  held.push(call("GET", `/things/${thingId}`, from(newAddress())));
  await vi.waitFor(() => expect(received).toHaveLength(4));
  expect((await call("GET", `/things/${thingId}`, from(newAddress()))).status).toBe(503);
  expect((await call("GET", "/healthz", from(address))).status).toBe(200);
  expect(await counter(metrics, 'polis_shed_total{why="in_flight_of_address"}')).toBe(1);
  expect(await counter(metrics, 'polis_shed_total{why="in_flight"}')).toBe(1);
  gate.resolve();
  expect((await Promise.all(held)).map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  // Every place is free again.
  await vi.waitFor(async () => expect(await counter(metrics, "polis_in_flight")).toBe(0));
  expect((await call("GET", `/things/${thingId}`, from(address))).status).toBe(200);
});

test("while the event loop is late, requests get 503", async () => {
  const { call, metrics } = await protectedThings(kv, { ...BEHIND_PROXY, EVENT_LOOP_DELAY_MAX_MS: "30" });
  const hold = setInterval(() => {
    const untilMs = performance.now() + 80;
    while (performance.now() < untilMs);
  }, 1);
  try {
    await vi.waitFor(async () => expect((await call("GET", "/things", from(newAddress()))).status).toBe(503), 10_000);
    expect((await call("GET", "/healthz")).status).toBe(200);
  } finally {
    clearInterval(hold);
  }
  expect(await counter(metrics, 'polis_shed_total{why="event_loop"}')).toBeGreaterThan(0);
  await vi.waitFor(async () => expect((await call("GET", "/things", from(newAddress()))).status).toBe(200), 10_000);
});

test("a process that was frozen for a moment goes on at once", async () => {
  const { call } = await protectedThings(kv, { ...BEHIND_PROXY, EVENT_LOOP_DELAY_MAX_MS: "30" });
  expect((await call("GET", "/things", from(newAddress()))).status).toBe(200);
  const untilMs = performance.now() + 800;
  while (performance.now() < untilMs);
  for (let times = 0; times < 100; times += 1) expect((await call("GET", "/things", from(newAddress()))).status).toBe(200);
});

test("one address can't have all connections, unless it is a trusted proxy's", async () => {
  const open = async (environment: Record<string, string>): Promise<boolean[]> => {
    const { url, metrics } = await protectedThings(kv, { CONNECTIONS_PER_ADDRESS_MAX: "2", ...environment });
    const { hostname, port } = new URL(url);
    const sockets: Socket[] = [];
    for (let n = 0; n < 3; n++) {
      const socket = connect(Number(port), hostname);
      socket.on("error", () => undefined);
      await once(socket, "connect");
      sockets.push(socket);
    }
    const answers = await Promise.all(
      sockets.map(async (socket) => {
        socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        return Promise.race([once(socket, "data").then(() => true), once(socket, "close").then(() => false)]);
      }),
    );
    expect(await counter(metrics, 'polis_connections_closed_total{why="address"}')).toBe(answers.filter((is) => !is).length);
    for (const socket of sockets) socket.destroy();
    return answers;
  };
  expect(await open({})).toEqual([true, true, false]);
  expect(await open(BEHIND_PROXY)).toEqual([true, true, true]);
});

test("pages of the origins that are named may call from a browser, and of no others", async () => {
  const { call } = await protectedThings(kv, { CORS_ORIGINS: "https://app.example.com,http://localhost:3000" });
  const origin = "https://app.example.com";
  const preflight = (from: string, path = `/things/${thingId}`) =>
    call("OPTIONS", path, { headers: { origin: from, "access-control-request-method": "PATCH" } });
  const told = await preflight(origin);
  expect([told.status, told.text]).toEqual([204, ""]);
  expect(Object.fromEntries([...told.headers].filter(([name]) => /^access-control|^vary/.test(name)))).toEqual({
    "access-control-allow-origin": origin,
    "access-control-allow-methods": "DELETE, GET, HEAD, PATCH, PUT",
    "access-control-allow-headers": "Authorization, Content-Type, Idempotency-Key, X-API-Key, Request-Timeout, traceparent",
    "access-control-expose-headers": "ETag, Location, Retry-After, RateLimit, RateLimit-Policy, X-Request-Id",
    "access-control-max-age": "600",
    vary: "Origin",
  });
  expect((await preflight("https://evil.example.com")).headers.get("access-control-allow-origin")).toBeNull();
  expect((await preflight(origin, "/nowhere")).status).toBe(404);
  for (const [path, status] of [
    [`/things/${thingId}`, 200],
    ["/things", 200],
    ["/nowhere", 404],
    ["/healthz", 200],
  ] as const) {
    const [ours, theirs, none] = [
      await call("GET", path, { headers: { origin } }),
      await call("GET", path, { headers: { origin: "https://evil.example.com" } }),
      await call("GET", path),
    ];
    expect([ours.status, ours.headers.get("access-control-allow-origin"), ours.headers.get("access-control-expose-headers")], path).toEqual(
      [status, origin, expect.stringContaining("RateLimit")],
    );
    for (const answer of [ours, theirs, none]) expect(answer.headers.get("vary"), path).toContain("Origin");
    for (const answer of [theirs, none]) expect(answer.headers.get("access-control-allow-origin"), path).toBeNull();
  }
});

test("browsers are told to come by HTTPS alone where clients reach the gateway so", async () => {
  const paths = ["/things", "/nowhere", "/docs"];
  const { call } = await protectedThings(kv, { POLIS_PUBLIC_URL: "https://api.example.com" });
  for (const path of paths) expect((await call("GET", path)).headers.get("strict-transport-security"), path).toBe("max-age=31536000");
  const plain = await protectedThings(kv, { POLIS_PUBLIC_URL: "http://api.example.com" });
  for (const path of paths) expect((await plain.call("GET", path)).headers.get("strict-transport-security"), path).toBeNull();
});
