import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { afterEach, describe, expect, test, vi } from "vitest";
import { ConformanceService } from "#contracts/polis/conformance/v1/conformance_pb.ts";
import { testLog } from "#platform/postgres/database.testing.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { createClient } from "#platform/rpc/client.ts";
import { collect, conformanceEndpoint, echo, failure, nothing, say, tokens, user } from "#platform/rpc/conformance.testing.ts";
import type { Handlers } from "#platform/rpc/endpoint.ts";
import { startGrpcServer } from "#platform/rpc/grpc-server.ts";
import { grpcTransport } from "#platform/rpc/grpc-transport.ts";
import { guardedPeer } from "#platform/rpc/guarded-peer.ts";
import type { Transport } from "#platform/rpc/transport.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const WAIT = { timeout: 10_000, interval: 50 };
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** `cut`: the connection is lost when a request is on it. `mute`: what comes is swallowed. */
type Line = "open" | "cut" | "mute";

/** How many requests begin in what a client sends (RFC 9113: a preface of 24 bytes, then frames, of which HEADERS is type 1). */
function requestCounter(): (data: Buffer) => number {
  let rest = Buffer.alloc(0);
  let isBegun = false;
  return (data) => {
    rest = Buffer.concat([rest, data]);
    if (!isBegun && rest.length >= 24) {
      rest = rest.subarray(24);
      isBegun = true;
    }
    let found = 0;
    while (isBegun && rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      if (rest[3] === 1) found += 1;
      rest = rest.subarray(9 + rest.readUIntBE(0, 3));
    }
    return found;
  };
}

/** A peer behind a line that can be broken, and a client of it. */
async function peer(handlers: Partial<Handlers<typeof ConformanceService>> = { ask: echo, change: echo }) {
  const server = await startGrpcServer({ endpoints: [conformanceEndpoint(handlers)], tokens, port: 0 });
  closing.push(() => server.close({ drainMs: 50 }));
  let line: Line = "open";
  let requests = 0;
  const sockets = new Set<Socket>();
  const proxy = createServer((near) => {
    const far = connect(server.port, "127.0.0.1");
    const cut = () => {
      near.destroy();
      far.destroy();
    };
    for (const socket of [near, far]) socket.on("error", cut).on("close", cut);
    sockets.add(near);
    far.pipe(near);
    const count = requestCounter();
    near.on("data", (data) => {
      const begun = count(data);
      requests += begun;
      if (line === "cut" && begun > 0) return cut();
      if (line !== "mute") far.write(data);
    });
  }).listen(0, "127.0.0.1");
  await once(proxy, "listening");
  closing.push(() => {
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });
  const transport = grpcTransport({ addresses: [`127.0.0.1:${(proxy.address() as AddressInfo).port}`], tokens });
  closing.push(() => transport.close());
  const metrics = new Metrics();
  const client = createClient(ConformanceService, guardedPeer(transport, { name: "tested", metrics, log: testLog }), { caller: user });
  return {
    client,
    metric: async (name: string) =>
      (await metrics.text())
        .split("\n")
        .find((text) => text.startsWith(name))
        ?.split(" ")
        .at(-1),
    requests: () => requests,
    line(next: Line) {
      line = next;
    },
    /** Until it counts as away. */
    async silence() {
      line = "mute";
      const calls = Array.from({ length: 10 }, () => failure(client.ask({ text: "in vain" }, { timeoutMs: 1_600 })));
      for (const { status } of await Promise.all(calls)) expect(status).toBe("DEADLINE_EXCEEDED");
    },
    /** The line is open again once a request has met it as it was. */
    async heal() {
      await vi.waitFor(() => expect(requests).toBeGreaterThan(0), { interval: 5 });
      line = "open";
    },
  };
}

describe("a call that is lost on its way", () => {
  test.each([
    { what: "reads", ask: ({ client }: Peer) => client.ask({ text: "again" }) },
    { what: "has a key", ask: ({ client }: Peer) => client.change({ text: "again" }, { idempotencyKey: "key" }) },
  ])("is sent again where it $what", async ({ ask }) => {
    const tested = await peer();
    tested.line("cut");
    const [answer] = await Promise.all([ask(tested), tested.heal()]);
    expect(answer.text).toBe("again");
    expect(Number(await tested.metric("polis_peer_retries_total"))).toBeGreaterThan(0);
  });

  test("and would change something each time isn't sent again, nor is one that the peer itself has refused", async () => {
    const handled = vi.fn();
    const tested = await peer({
      async change() {
        handled();
        throw new CallError("UNAVAILABLE", "unavailable", "The database can't be reached.", { retryAfterMs: 7_000 });
      },
    });
    tested.line("cut");
    expect(await failure(tested.client.change({ text: "once" }))).toMatchObject({ status: "UNAVAILABLE" });
    expect(await failure(tested.client.act({ text: "once" }, { idempotencyKey: "of-no-use" }))).toMatchObject({ status: "UNAVAILABLE" });
    tested.line("open");
    await vi.waitFor(async () =>
      expect(await failure(tested.client.change({ text: "refused" }, { idempotencyKey: "key" }))).toMatchObject({ retryAfterMs: 7_000 }),
    );
    expect(handled).toHaveBeenCalledTimes(1);
    expect(await tested.metric("polis_peer_retries_total")).toBeUndefined();
  });

  test("names its peer, and the setting that leads there, as its cause, whatever its kind", async () => {
    async function* requests() {
      yield { text: "lost" };
    }
    const tested = await peer({ listen: nothing, converse: nothing, tell: async () => say("") });
    tested.line("cut");
    const { client } = tested;
    for (const lost of [
      client.change({ text: "lost" }),
      client.tell(requests()),
      collect(client.listen({})),
      collect(client.converse(requests())),
    ])
      expect(await failure(lost)).toMatchObject({
        status: "UNAVAILABLE",
        cause: { message: "tested isn't reached; TESTED_URL says where it is", cause: expect.anything() },
      });
  });

  test("is given up after a while, and a peer in trouble isn't given the work many times over", async () => {
    const tested = await peer();
    tested.line("cut");
    const lost = () => failure(tested.client.ask({ text: "lost" }));
    for (const { status } of await Promise.all(Array.from({ length: 100 }, lost))) expect(status).toBe("UNAVAILABLE");
    expect(tested.requests()).toBeLessThan(150);
  });

  test("is sent again only while there are retries left, though its peer isn't away", async () => {
    const sent: string[] = [];
    /** Loses each call the first time that it is sent, but those in between. */
    const unary = async (_: unknown, request: unknown) => {
      const { text } = request as { text: string };
      sent.push(text);
      if (text === "between" || sent.indexOf(text) < sent.length - 1) return say(text);
      throw new CallError("UNAVAILABLE", "unavailable", "lost", { cause: new Error("lost") });
    };
    const guarded = guardedPeer({ unary } as unknown as Transport, { name: "tested", metrics: new Metrics(), log: testLog });
    const client = createClient(ConformanceService, guarded, { caller: user });
    const statuses: string[] = [];
    // Never ten in a row without an answer, so that the circuit stays as it is.
    for (let round = 0; round < 20; round++) {
      const calls = Array.from({ length: 9 }, (_, n) => client.ask({ text: `${round} ${n}` }));
      for (const call of await Promise.allSettled(calls)) statuses.push(call.status === "fulfilled" ? "answered" : call.reason.status);
      expect((await client.ask({ text: "between" })).text).toBe("between");
    }
    const answered = statuses.filter((status) => status === "answered").length;
    // A hundred, and one more for every ten that were answered.
    expect(answered).toBeGreaterThanOrEqual(100);
    expect(answered).toBeLessThanOrEqual(100 + (answered + 20) / 10);
    expect(statuses.filter((status) => status === "UNAVAILABLE")).toHaveLength(180 - answered);
  });
});

type Peer = Awaited<ReturnType<typeof peer>>;

describe("a peer that doesn't answer", () => {
  async function silenced(): Promise<Peer> {
    const tested = await peer();
    await tested.client.ask({ text: "before" });
    await tested.silence();
    return tested;
  }

  test("isn't asked any more: calls fail at once and say when to come again", async () => {
    const tested = await silenced();
    const before = tested.requests();
    const refused = await failure(tested.client.ask({ text: "not tried" }, { timeoutMs: 60_000 }));
    expect(refused).toMatchObject({ status: "UNAVAILABLE", code: "unavailable" });
    expect(refused.retryAfterMs).toBeGreaterThan(0);
    expect(tested.requests()).toBe(before);
    expect(await tested.metric("polis_peer_away")).toBe("1");
    expect(await tested.metric('polis_peer_refused_total{peer="tested",why="away"}')).toBe("1");
  });

  test("is asked by one call after a while, and by all again once that was answered", async () => {
    const tested = await silenced();
    tested.line("open");
    const again = () => tested.client.ask({ text: "back" }).then(({ text }) => text);
    await vi.waitFor(async () => expect(await again()).toBe("back"), WAIT);
    expect(await Promise.all(Array.from({ length: 20 }, again))).toEqual(Array.from({ length: 20 }, () => "back"));
    expect(await tested.metric("polis_peer_away")).toBe("0");
  });

  test.each([
    ["fails before it is sent", new TypeError("can't be encoded")],
    ["its caller gives up", new CallError("CANCELLED", "cancelled", "The caller has gone.")],
  ])("isn't taken for back by a call that %s", async (_, ended) => {
    const lost = new CallError("UNAVAILABLE", "unavailable", "lost", { cause: new Error("lost") });
    let failure: Error = lost;
    const unary = async () => Promise.reject(failure);
    const metrics = new Metrics();
    const guarded = guardedPeer({ unary } as unknown as Transport, { name: "tested", metrics, log: testLog });
    const client = createClient(ConformanceService, guarded, { caller: user });
    const reasons = async (count: number) =>
      (await Promise.allSettled(Array.from({ length: count }, () => client.change({ text: "" })))).map(
        (call) => call.status === "rejected" && call.reason,
      );
    await reasons(10);
    expect(await metrics.text()).toContain('polis_peer_away{peer="tested"} 1');
    failure = ended;
    await vi.waitFor(async () => expect(await reasons(1)).toMatchObject([{ message: ended.message }]), WAIT);
    expect(await metrics.text()).toContain('polis_peer_away{peer="tested"} 1');
  });

  test("and one whose callers gave up early isn't taken for away", async () => {
    const tested = await peer({ ask: ({ text }) => (text === "slow" ? new Promise(() => {}) : Promise.resolve(say(text))) });
    await Promise.all(Array.from({ length: 30 }, () => failure(tested.client.ask({ text: "slow" }, { timeoutMs: 200 }))));
    expect(await tested.metric("polis_peer_away")).toBe("0");
    expect((await tested.client.ask({ text: "quick" })).text).toBe("quick");
  });
});

test("streams that say nothing are as many as one likes, and keep nobody from finding the peer back", async () => {
  const tested = await peer({
    ask: echo,
    async *listen(_request, { signal }) {
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    },
    async tell(requests) {
      for await (const { text } of requests) return say(text);
      return say("nothing");
    },
  });
  const giveUp = new AbortController();
  const silent = () => collect(tested.client.listen({}, { signal: giveUp.signal })).catch(() => undefined);
  /** An upload that goes on and on. */
  async function* endless() {
    await new Promise((resolve) => giveUp.signal.addEventListener("abort", resolve));
    yield { text: "at last" };
  }
  const upload = () => tested.client.tell(endless(), { signal: giveUp.signal }).catch(() => undefined);
  const streams: Promise<unknown>[] = Array.from({ length: 1_100 }, (_, n) => (n < 50 ? silent() : upload()));
  expect((await tested.client.ask({ text: "beside them" })).text).toBe("beside them");
  await tested.silence();
  tested.line("open");
  await vi.waitFor(async () => {
    streams.push(silent(), upload());
    expect((await tested.client.ask({ text: "back" })).text).toBe("back");
  }, WAIT);
  giveUp.abort();
  await Promise.all(streams);
});

test("more calls under way than a peer ever answers are refused at once", async () => {
  const release = Promise.withResolvers<void>();
  const tested = await peer({
    async ask({ text }) {
      await release.promise;
      return say(text);
    },
  });
  const calls = Array.from({ length: 1_000 }, () => tested.client.ask({ text: "waits" }));
  expect(await failure(tested.client.ask({ text: "one too many" }))).toMatchObject({ status: "UNAVAILABLE", retryAfterMs: 2_000 });
  release.resolve();
  for (const { text } of await Promise.all(calls)) expect(text).toBe("waits");
  expect((await tested.client.ask({ text: "after" })).text).toBe("after");
});
