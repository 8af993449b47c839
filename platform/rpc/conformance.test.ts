import { create, equals, type MessageInitShape } from "@bufbuild/protobuf";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  AnswerSchema,
  type AskRequest,
  AskRequestSchema,
  ConformanceService,
  Everything_Kind,
  EverythingSchema,
  OwnedSchema,
} from "#contracts/polis/conformance/v1/conformance_pb.ts";
import { type Caller, nobody, serviceCaller, userCaller } from "#platform/access/caller.ts";
import { callerTokens } from "#platform/access/caller-token.ts";
import { reject } from "#platform/rejection.ts";
import { CallError, type Status, statuses } from "#platform/rpc/call-error.ts";
import { type ClientBase, createClient, peersOf } from "#platform/rpc/client.ts";
import type { CallOptions, Context } from "#platform/rpc/context.ts";
import { defineEndpoint, type Handlers } from "#platform/rpc/endpoint.ts";
import { startGrpcServer } from "#platform/rpc/grpc-server.ts";
import { grpcTransport } from "#platform/rpc/grpc-transport.ts";
import { MESSAGE_BYTES_MAX } from "#platform/rpc/handover.ts";
import { withoutCalls } from "#platform/rpc/no-calls.ts";
import type { Transport } from "#platform/rpc/transport.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { newTraceparent } from "#platform/telemetry/trace-context.ts";
import { passingTracer } from "#platform/telemetry/tracing.ts";

// What a call is, whichever way it goes: every sentence here holds in process and over gRPC.

type Service = typeof ConformanceService;
type Opened = { readonly transport: Transport; close(): Promise<void> };

const tokens = callerTokens({ secrets: ["a secret of at least thirty-two characters"] });
const user = userCaller("01890000-0000-7000-8000-000000000001");

const say = (text: string) => create(AnswerSchema, { text });
const echo = async (request: { text: string }) => say(request.text);
const unexpected = async () => {
  throw new Error("no handler for this test");
};
async function* nothing() {}

/** What a test doesn't name isn't called. */
const defaults: Handlers<Service> = {
  ask: echo,
  change: unexpected,
  getOwned: unexpected,
  askPublic: echo,
  askGuarded: echo,
  askInternal: echo,
  listen: nothing,
  tell: unexpected,
  converse: nothing,
};

const inProcess = (handlers: Handlers<Service>, tools: Tools): Promise<Opened> =>
  Promise.resolve({ transport: defineEndpoint(ConformanceService, handlers, tools), close: async () => {} });

async function overGrpc(handlers: Handlers<Service>, tools: Tools): Promise<Opened> {
  const endpoint = defineEndpoint(ConformanceService, handlers, tools);
  const server = await startGrpcServer({ endpoints: [endpoint], tokens, port: 0 });
  const transport = grpcTransport({ addresses: [`localhost:${server.port}`], tokens });
  return {
    transport,
    close: async () => {
      transport.close();
      await server.close({ drainMs: 100 });
    },
  };
}

type Tools = Parameters<typeof defineEndpoint>[2];
type Logged = { level: number; msg: string; method: string; err: { message: string } };

describe.each([
  ["in process", inProcess],
  ["over gRPC", overGrpc],
])("a call %s", (_way, open) => {
  const logged: Logged[] = [];
  const metrics = new Metrics();
  const tools: Tools = {
    metrics,
    tracer: passingTracer,
    log: pino({ level: "debug" }, { write: (line: string) => void logged.push(JSON.parse(line)) }),
  };
  let opened: Opened;
  let current: Handlers<Service> = defaults;
  beforeEach(async () => {
    current = defaults;
    logged.length = 0;
    const late = Object.fromEntries(
      ConformanceService.methods.map(({ localName }) => [
        localName,
        (...args: unknown[]) => (current[localName as keyof Service["method"]] as (...given: unknown[]) => unknown)(...args),
      ]),
    );
    opened = await open(late as unknown as Handlers<Service>, tools);
  });
  afterEach(() => opened.close());

  const serve = (handlers: Partial<Handlers<Service>>) => {
    current = { ...defaults, ...handlers };
  };
  const clientOf = (caller: Caller, base: Omit<ClientBase, "caller"> = {}) =>
    createClient(ConformanceService, opened.transport, { caller, ...base });
  const client = () => clientOf(user);
  const failure = (call: Promise<unknown>): Promise<CallError> =>
    call.then(
      () => expect.unreachable("the call was answered"),
      (error) => {
        expect(error).toBeInstanceOf(CallError);
        return error;
      },
    );
  const collect = async <T>(stream: AsyncIterable<T>): Promise<T[]> => {
    const items: T[] = [];
    for await (const item of stream) items.push(item);
    return items;
  };
  const texts = (items: { text: string }[]) => items.map(({ text }) => text);
  async function* asks(...words: string[]) {
    for (const text of words) yield { text };
  }

  describe("with one answer", () => {
    it("gets it", async () => {
      expect(await client().ask({ text: "hello" })).toEqual(say("hello"));
    });

    it("hands over every kind of field as it is", async () => {
      const everything: MessageInitShape<typeof EverythingSchema> = {
        aBool: true,
        anInt32: -(2 ** 31),
        aSint32: -5,
        aUint32: 2 ** 32 - 1,
        aFixed32: 7,
        aSfixed32: -7,
        anInt64: -(2n ** 63n),
        aSint64: 2n ** 63n - 1n,
        aUint64: 2n ** 64n - 1n,
        aFixed64: 1n,
        aSfixed64: -1n,
        aFloat: 0.1,
        aDouble: 0.1,
        aString: "\u{FEFF}Привет 🎉",
        someBytes: new Uint8Array([0, 255]),
        kind: Everything_Kind.SOME,
        maybe: "",
        texts: ["", "a"],
        blobs: [new Uint8Array(), new Uint8Array([1])],
        children: [{ anInt32: 1 }, { children: [{ aString: "deep" }] }],
        labels: { a: "b", ["__proto__"]: "c", "": "d" },
        byId: { "-9223372036854775808": { aBool: true } },
        at: { seconds: 1n, nanos: 5 },
        json: { a: [1, "x", null, { b: true }] },
        wrapped: "",
        choice: { case: "deepChoice", value: create(EverythingSchema, { choice: { case: "bytesChoice", value: new Uint8Array([3]) } }) },
        maybeNumber: 0n,
        kinds: [Everything_Kind.NONE, Everything_Kind.SOME],
      };
      let seen: AskRequest | undefined;
      serve({
        ask: async (request) => {
          seen = request;
          return create(AnswerSchema, { everything: request.everything! });
        },
      });
      const answer = await client().ask({ everything });
      const expected = create(EverythingSchema, { ...everything, aFloat: Math.fround(0.1) });
      expect(seen?.everything).toEqual(expected);
      expect(answer.everything).toEqual(expected);
      expect(equals(EverythingSchema, answer.everything!, expected)).toBe(true);
      expect(Object.keys(answer.everything?.labels ?? {})).toContain("__proto__");
    });

    it("leaves what wasn't said unsaid", async () => {
      serve({ ask: async ({ everything }) => create(AnswerSchema, { everything: everything! }) });
      const { everything } = await client().ask({ everything: {} });
      expect(everything).toEqual(create(EverythingSchema));
      expect(everything?.maybe).toBeUndefined();
    });

    it("shares nothing between the two sides, neither the request nor the answer", async () => {
      const kept = create(AnswerSchema, { text: "as it was", data: new Uint8Array([1]), everything: { children: [{ aString: "inner" }] } });
      const seen: string[] = [];
      const later = Promise.withResolvers<void>();
      serve({
        ask: async (request) => {
          seen.push(request.text, String(request.parts.length));
          await later.promise;
          seen.push(request.text, String(request.parts.length));
          request.text = "changed by the service";
          return kept;
        },
      });
      const request = create(AskRequestSchema, { text: "mine" });
      const call = client().ask(request);
      request.text = "changed by the caller";
      request.parts.push(create(AskRequestSchema, { parts: [{ amount: 1n }] }).parts[0]!);
      await vi.waitFor(() => expect(seen.length).toBe(2));
      later.resolve();
      const answer = await call;
      expect(seen).toEqual(["mine", "0", "mine", "0"]);
      expect(request.text).toBe("changed by the caller");
      answer.text = "changed by the caller";
      answer.data[0] = 9;
      answer.everything!.children[0]!.aString = "changed";
      expect(kept.text).toBe("as it was");
      expect(kept.data[0]).toBe(1);
      expect(kept.everything?.children[0]?.aString).toBe("inner");
    });

    it("is counted with its status", async () => {
      await client().ask({});
      await failure(client().ask({ amount: -1n }));
      const text = await metrics.text();
      expect(text).toMatch(/polis_call_duration_seconds_count\{service="conformance",method="Ask",code="OK"\} \d+/);
      expect(text).toMatch(/polis_call_duration_seconds_count\{service="conformance",method="Ask",code="INVALID_ARGUMENT"\} \d+/);
    });
  });

  describe("as somebody", () => {
    const callers: [string, Caller][] = [
      ["a user", userCaller("someone", { roles: ["auditor"], scopes: ["a", "b"], secondFactor: true })],
      ["a service", serviceCaller("tester")],
      ["a service for a user", serviceCaller("tester", userCaller("someone", { roles: ["admin"] }))],
    ];
    it.each(callers)("tells the service who calls: %s", async (_, caller) => {
      let seen: Caller | undefined;
      serve({
        ask: async (_request, context) => {
          seen = context.caller;
          return say("");
        },
      });
      await clientOf(caller).ask({});
      expect(seen).toEqual(caller);
    });

    it("lets nobody call what is public, and nothing else", async () => {
      expect(texts([await clientOf(nobody).askPublic({ text: "hi" })])).toEqual(["hi"]);
      expect(await failure(clientOf(nobody).ask({}))).toMatchObject({ status: "UNAUTHENTICATED", code: "unauthenticated" });
    });

    const guarded = { roles: ["auditor"], scopes: ["secrets", "more"], secondFactor: true };
    it.each<[string, Caller, boolean]>([
      ["all that is asked for", userCaller("a", guarded), true],
      ["another of the roles", userCaller("a", { ...guarded, roles: ["admin"] }), true],
      ["no such role", userCaller("a", { ...guarded, roles: [] }), false],
      ["no such scope", userCaller("a", { ...guarded, scopes: ["other"] }), false],
      ["no second factor", userCaller("a", { ...guarded, secondFactor: false }), false],
      ["the user's rights, as a service that isn't named", serviceCaller("tester", userCaller("a", guarded)), false],
    ])("with %s is let in or not by the contract", async (_, caller, allowed) => {
      const call = clientOf(caller).askGuarded({ text: "x" });
      if (allowed) expect((await call).text).toBe("x");
      else expect(await failure(call)).toMatchObject({ status: "PERMISSION_DENIED", code: "forbidden" });
    });

    it("lets only the named services call what is for services", async () => {
      expect((await clientOf(serviceCaller("tester")).askInternal({ text: "x" })).text).toBe("x");
      for (const other of [serviceCaller("other"), serviceCaller("other", user), user])
        expect(await failure(clientOf(other).askInternal({}))).toMatchObject({ code: "forbidden" });
    });

    it("is checked before the request is", async () => {
      expect(await failure(clientOf(serviceCaller("other")).ask({ amount: -1n }))).toMatchObject({ code: "forbidden" });
    });

    it.each<[string, Caller, boolean]>([
      ["the owner", user, true],
      ["another user", userCaller("another"), false],
      ["a service for the owner", serviceCaller("tester", user), true],
      ["a service for another user", serviceCaller("tester", userCaller("another")), false],
      ["a service on its own", serviceCaller("tester"), true],
    ])("shows what is owned to %s, or says that there is none", async (_, caller, shown) => {
      serve({ getOwned: async () => create(OwnedSchema, { owner: { userId: user.userId } }) });
      const call = clientOf(caller).getOwned({});
      if (shown) expect((await call).owner?.userId).toBe(user.userId);
      else expect(await failure(call)).toMatchObject({ status: "NOT_FOUND", code: "not_found" });
    });

    it("shows what has no owner to no user", async () => {
      serve({ getOwned: async () => create(OwnedSchema) });
      expect(await failure(client().getOwned({}))).toMatchObject({ code: "not_found" });
    });
  });

  describe("that breaks the contract", () => {
    it("is told every field and rule, by the names of JSON", async () => {
      const error = await failure(
        client().ask({
          amount: -1n,
          parts: [
            { amount: 1n, choice: { case: "byNumber", value: 1 } },
            { amount: 0n, partName: "much too long" },
          ],
        }),
      );
      expect(error).toMatchObject({ status: "INVALID_ARGUMENT", code: "validation_failed" });
      expect(error.violations.map(({ field, rule }) => `${field} ${rule}`).sort()).toEqual([
        "amount int64.gte",
        "parts[1].amount int64.gt",
        "parts[1].choice required",
        "parts[1].partName string.max_len",
      ]);
      expect(error.violations.every(({ message }) => message.length > 0)).toBe(true);
    });

    it.each<[string, MessageInitShape<typeof AskRequestSchema>, string]>([
      ["a lone surrogate", { text: "a\ud800" }, "text string.well_formed"],
      ["NUL", { text: "a\0" }, "text string.no_nul"],
      ["NUL in a map's key", { everything: { labels: { "a\0": "" } } }, 'everything.labels["a\\u0000"] string.no_nul'],
      ["NUL in a map's message", { everything: { byId: { 5: { aString: "\0" } } } }, 'everything.byId["5"].aString string.no_nul'],
      ["NUL deep in lists", { everything: { children: [{}, { texts: ["", "\0"] }] } }, "everything.children[1].texts[1] string.no_nul"],
      ["NUL in a oneof", { everything: { choice: { case: "textChoice", value: "\0" } } }, "everything.textChoice string.no_nul"],
      ["a lone surrogate in JSON", { everything: { json: { a: ["\udfff"] } } }, 'everything.json["a"][0] string.well_formed'],
      ["a lone surrogate in a wrapper", { everything: { wrapped: "\ud800" } }, "everything.wrapped string.well_formed"],
    ])("is refused for %s", async (_, request, violation) => {
      const error = await failure(client().ask(request));
      expect(error).toMatchObject({ status: "INVALID_ARGUMENT", code: "validation_failed" });
      expect(error.violations.map(({ field, rule }) => `${field} ${rule}`)).toEqual([violation]);
    });

    it("with violations without end is told the first of them", async () => {
      const error = await failure(client().ask({ parts: Array.from({ length: 1000 }, () => ({})) }));
      expect(error.violations.length).toBe(32);
    });

    it.each<[string, object]>([
      ["a number where a bigint belongs", { amount: 1 }],
      ["a bigint out of range", { amount: 2n ** 63n }],
      ["an integer out of range", { everything: { anInt32: 2 ** 31 } }],
      ["a fraction where an integer belongs", { everything: { aUint32: 0.5 } }],
      ["a number where a text belongs", { text: 5 }],
      ["another message", { everything: say("") }],
    ])("in its types is the caller's fault, a TypeError: %s", async (_, request) => {
      await expect(client().ask(request as never)).rejects.toThrow(TypeError);
    });

    it("over the size of a message is refused, and just under it is not", async () => {
      const overhead = 8;
      const fits = "a".repeat(MESSAGE_BYTES_MAX - overhead);
      serve({ ask: async ({ text }) => say(String(text.length)) });
      expect((await client().ask({ text: fits })).text).toBe(String(fits.length));
      expect(await failure(client().ask({ text: `${fits}${"a".repeat(overhead)}` }))).toMatchObject({
        status: "INVALID_ARGUMENT",
        code: "message_too_large",
      });
      // Counted in bytes and not in characters.
      expect(await failure(client().ask({ text: "я".repeat(MESSAGE_BYTES_MAX / 2) }))).toMatchObject({ code: "message_too_large" });
    });

    it("refuses an idempotency key that a header couldn't carry", async () => {
      for (const idempotencyKey of ["", " a", "ключ", "a\n", "a".repeat(256)])
        expect(await failure(client().ask({}, { idempotencyKey }))).toMatchObject({ code: "validation_failed" });
    });
  });

  describe("that is refused", () => {
    it.each<[string, Status]>([
      ["failed_precondition", "FAILED_PRECONDITION"],
      ["thing_not_found", "NOT_FOUND"],
      ["thing_exists", "ALREADY_EXISTS"],
      ["thing_closed", "PERMISSION_DENIED"],
      ["thing_wrong", "INVALID_ARGUMENT"],
      ["too_many", "RESOURCE_EXHAUSTED"],
      ["not_found", "NOT_FOUND"],
    ])("by the rejection %s gets the status that the contract gives it", async (code, status) => {
      serve({ ask: async () => reject(code) });
      expect(await failure(client().ask({}))).toMatchObject({ status, code });
    });

    it("gets the contract's text, or the detail where there is one", async () => {
      serve({ ask: async ({ text }) => reject("failed_precondition", text === "" ? undefined : text) });
      expect((await failure(client().ask({}))).message).toBe("Not now.");
      expect((await failure(client().ask({ text: "Nicht jetzt: %41 äöü\n🎉" }))).message).toBe("Nicht jetzt: %41 äöü\n🎉");
      expect(logged).toEqual([]);
    });

    it("by a code that the contract doesn't declare is a fault, and told to the log", async () => {
      serve({ ask: async () => reject("surprise"), change: async () => reject("idempotency_key_reused") });
      expect(await failure(client().ask({}))).toMatchObject({ status: "INTERNAL", code: "internal" });
      expect(logged.some(({ err }) => err.message.includes("surprise"))).toBe(true);
      expect(await failure(client().change({}))).toMatchObject({ status: "ALREADY_EXISTS", code: "idempotency_key_reused" });
    });

    it.each(Object.keys(statuses) as Status[])("by a peer with %s gets what the peer said, whole", async (status) => {
      const violations = [{ field: "legs[0].amount", rule: "int64.gt", message: "must be > 0 – ü" }];
      serve({
        ask: async () => {
          throw new CallError(status, "peer_code", "A text of the peer.", { violations, retryAfterMs: 1500 });
        },
      });
      const error = await failure(client().ask({}));
      expect(error).toMatchObject({ status, code: "peer_code", message: "A text of the peer.", violations, retryAfterMs: 1500 });
    });

    it.each<[string, () => Promise<never>]>([
      ["an exception", () => Promise.reject(new Error("secret detail"))],
      ["something thrown that is no error", () => Promise.reject("secret detail")],
      [
        "a peer's error with a cause",
        () => Promise.reject(new CallError("INTERNAL", "internal", "No.", { cause: new Error("secret detail") })),
      ],
      [
        "an exception thrown at once",
        () => {
          throw new Error("secret detail");
        },
      ],
    ])("by %s isn't told the cause, but the log is", async (_, ask) => {
      serve({ ask });
      const error = await failure(client().ask({}));
      expect(error).toMatchObject({ status: "INTERNAL", code: "internal" });
      expect(error.cause).toBeUndefined();
      expect(`${error.message}${JSON.stringify(error)}`).not.toContain("secret");
      expect(JSON.stringify(logged)).toContain("secret detail");
      expect(logged[0]).toMatchObject({ level: 50, method: "polis.conformance.v1.ConformanceService/Ask" });
    });

    it("is refused for an answer that may not leave: too large, ill-formed, of another type", async () => {
      const answers = [
        create(AnswerSchema, { data: new Uint8Array(MESSAGE_BYTES_MAX + 1) }),
        say("\ud800"),
        { $typeName: "polis.conformance.v1.Answer", text: 5 } as never,
      ];
      for (const answer of answers) {
        serve({ ask: async () => answer });
        expect(await failure(client().ask({}))).toMatchObject({ status: "INTERNAL", code: "internal" });
      }
      expect(logged.length).toBe(3);
    });
  });

  describe("in time", () => {
    const forever = (context: Context) =>
      new Promise<never>((_, fail) => context.signal.addEventListener("abort", () => fail(context.signal.reason)));

    it("lets the caller go at the deadline and tells the handler", async () => {
      let signal: AbortSignal | undefined;
      const started = Date.now();
      serve({
        ask: (_request, context) => {
          signal = context.signal;
          return new Promise(() => {});
        },
      });
      expect(await failure(client().ask({}, { timeoutMs: 60 }))).toMatchObject({ status: "DEADLINE_EXCEEDED", code: "deadline_exceeded" });
      expect(Date.now() - started).toBeGreaterThanOrEqual(55);
      await vi.waitFor(() => expect(signal?.aborted).toBe(true));
      expect(signal?.reason).toMatchObject({ status: "DEADLINE_EXCEEDED" });
    });

    it("isn't begun when it is too late", async () => {
      const ask = vi.fn(echo);
      serve({ ask });
      expect(await failure(client().ask({}, { timeoutMs: 0 }))).toMatchObject({ code: "deadline_exceeded" });
      expect(ask).not.toHaveBeenCalled();
    });

    it("has a deadline, also where nobody named one", async () => {
      let deadlineMs = 0;
      serve({
        ask: async (_request, context) => {
          deadlineMs = context.deadlineMs;
          return say("");
        },
      });
      const before = Date.now();
      await client().ask({});
      expect(deadlineMs - before).toBeGreaterThan(14_000);
      expect(deadlineMs - before).toBeLessThan(16_000);
      await expect(client().ask({}, { timeoutMs: Number.POSITIVE_INFINITY })).rejects.toThrow(RangeError);
    });

    it("is given up with its caller, and the handler is told", async () => {
      const controller = new AbortController();
      let context: Context | undefined;
      serve({
        ask: (_request, given) => {
          context = given;
          return forever(given);
        },
      });
      const call = failure(client().ask({}, { signal: controller.signal }));
      await vi.waitFor(() => expect(context).toBeDefined());
      controller.abort();
      expect(await call).toMatchObject({ status: "CANCELLED", code: "cancelled" });
      await vi.waitFor(() => expect(context?.signal.aborted).toBe(true));
      expect(await failure(client().ask({}, { signal: controller.signal }))).toMatchObject({ code: "cancelled" });
    });

    it("doesn't tell a handler that was in time", async () => {
      let signal: AbortSignal | undefined;
      serve({
        ask: async (_request, context) => {
          signal = context.signal;
          return say("");
        },
      });
      const controller = new AbortController();
      await client().ask({}, { signal: controller.signal });
      controller.abort();
      expect(signal?.aborted).toBe(false);
    });
  });

  describe("made while another is served", () => {
    const peers = (context: Context) => peersOf(context, { service: "tester", transportFor: () => opened.transport })(ConformanceService);

    it("takes along its user, deadline and trace, and acts as its service", async () => {
      const traceparent = newTraceparent(true);
      const seen: Context[] = [];
      serve({
        ask: async ({ text }, context) => {
          seen.push(context);
          return text === "outer" ? peers(context).ask({ text: "inner" }) : say(text);
        },
      });
      expect((await client().ask({ text: "outer" }, { timeoutMs: 5000, traceparent, idempotencyKey: "k-1" })).text).toBe("inner");
      expect(seen[1]?.caller).toEqual(serviceCaller("tester", user));
      expect(seen.map((context) => context.traceparent.split("-")[1])).toEqual([traceparent.split("-")[1], traceparent.split("-")[1]]);
      expect(Math.abs(seen[1]!.deadlineMs - seen[0]!.deadlineMs)).toBeLessThan(50);
      // A key names one command; another's is derived by whoever needs it.
      expect(seen.map((context) => context.idempotencyKey)).toEqual(["k-1", undefined]);
    });

    it("ends with it, at its deadline or when it is given up", async () => {
      for (const makeOptions of [() => ({ timeoutMs: 80 }), () => ({ signal: AbortSignal.timeout(80) })] satisfies (() => CallOptions)[]) {
        const options = makeOptions();
        let inner: AbortSignal | undefined;
        let error: unknown;
        serve({
          ask: async ({ text }, context) => {
            if (text === "inner") {
              inner = context.signal;
              return new Promise(() => {});
            }
            return peers(context)
              .ask({ text: "inner" }, { timeoutMs: 60_000 })
              .catch((caught) => {
                error = caught;
                throw caught;
              });
          },
        });
        const expected = "timeoutMs" in options ? "DEADLINE_EXCEEDED" : "CANCELLED";
        expect(await failure(client().ask({ text: "outer" }, options))).toMatchObject({ status: expected });
        await vi.waitFor(() => expect(inner?.aborted).toBe(true));
        await vi.waitFor(() => expect(error).toMatchObject({ status: expected }));
      }
    });

    it("begins a new trace where there is none, or a broken one", async () => {
      const seen: string[] = [];
      serve({
        ask: async (_request, context) => {
          seen.push(context.traceparent, context.traceparent);
          return say("");
        },
      });
      await client().ask({}, { traceparent: "00-nonsense" });
      await client().ask({});
      expect(seen.every((traceparent) => /^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/.test(traceparent))).toBe(true);
      expect(seen[0]).toBe(seen[1]);
      expect(seen[0]).not.toBe(seen[2]);
    });

    it("in a transaction throws, and after it doesn't", async () => {
      await expect(withoutCalls(() => client().ask({}))).rejects.toThrow("inside a transaction");
      await expect(withoutCalls(async () => collect(client().listen({})))).rejects.toThrow("inside a transaction");
      expect((await client().ask({ text: "after" })).text).toBe("after");
    });
  });

  describe("with a stream of answers", () => {
    it("gets them in order", async () => {
      serve({
        listen: async function* ({ text }) {
          for (let i = 0; i < 100; i += 1) yield say(`${text}${i}`);
        },
      });
      expect(texts(await collect(client().listen({ text: "n" })))).toEqual(Array.from({ length: 100 }, (_, i) => `n${i}`));
    });

    it("starts when it is read", async () => {
      const listen = vi.fn(nothing);
      serve({ listen });
      const stream = client().listen({});
      await client().ask({});
      expect(listen).not.toHaveBeenCalled();
      await collect(stream);
      expect(listen).toHaveBeenCalledOnce();
    });

    it("holds a service up that is faster than its reader", async () => {
      let made = 0;
      const block = new Uint8Array(64 * 1024);
      serve({
        listen: async function* () {
          for (;;) {
            made += 1;
            yield create(AnswerSchema, { data: block });
          }
        },
      });
      let read = 0;
      let settled = -1;
      for await (const _ of client().listen({})) {
        read += 1;
        if (read === 3) {
          // The service makes no more while nothing is read.
          await vi.waitFor(
            () => {
              const before = settled;
              settled = made;
              expect(settled).toBe(before);
            },
            { interval: 100, timeout: 5000 },
          );
          break;
        }
      }
      expect(made).toBeLessThan(200);
    });

    it("that is read no further ends at the service", async () => {
      let ended = false;
      let signal: AbortSignal | undefined;
      serve({
        listen: async function* (_request, context) {
          signal = context.signal;
          try {
            for (let i = 0; ; i += 1) {
              yield say(String(i));
              await new Promise((resolve) => setImmediate(resolve));
            }
          } finally {
            ended = true;
          }
        },
      });
      for await (const { text } of client().listen({})) if (text === "2") break;
      await vi.waitFor(() => expect(ended).toBe(true));
      expect(signal?.aborted).toBe(true);
    });

    it("ends with a rejection or an exception, after what came before it", async () => {
      for (const [end, expected] of [
        [() => reject("thing_not_found"), { status: "NOT_FOUND", code: "thing_not_found", message: "No such thing." }],
        [
          () => {
            throw new Error("secret detail");
          },
          { status: "INTERNAL", code: "internal" },
        ],
      ] as const) {
        serve({
          listen: async function* () {
            for (let i = 0; i < 10; i += 1) yield say(String(i));
            yield end();
          },
        });
        const got: string[] = [];
        const read = (async () => {
          for await (const { text } of client().listen({})) {
            got.push(text);
            await new Promise((resolve) => setImmediate(resolve));
          }
        })();
        expect(await failure(read)).toMatchObject(expected);
        expect(got.length).toBe(10);
      }
    });

    it("is checked for its caller and its request like any other", async () => {
      expect(await failure(collect(clientOf(nobody).listen({})))).toMatchObject({ code: "unauthenticated" });
      expect(await failure((async () => collect(client().listen({ text: "\0" })))())).toMatchObject({ code: "validation_failed" });
    });

    it("lets its reader go at the deadline, also between two answers", async () => {
      let signal: AbortSignal | undefined;
      serve({
        listen: async function* (_request, context) {
          signal = context.signal;
          yield say("one");
          await new Promise(() => {});
        },
      });
      const got: string[] = [];
      const read = (async () => {
        for await (const { text } of client().listen({}, { timeoutMs: 150 })) got.push(text);
      })();
      expect(await failure(read)).toMatchObject({ status: "DEADLINE_EXCEEDED" });
      expect(got).toEqual(["one"]);
      await vi.waitFor(() => expect(signal?.aborted).toBe(true));
    });

    it("may have no deadline at all", async () => {
      let deadlineMs: number | undefined;
      serve({
        listen: async function* (_request, context) {
          deadlineMs = context.deadlineMs;
          yield say("");
        },
      });
      await collect(client().listen({}, { timeoutMs: Number.POSITIVE_INFINITY }));
      expect(deadlineMs).toBe(Number.POSITIVE_INFINITY);
    });
  });

  describe("with a stream of requests", () => {
    it("gets one answer to all of them", async () => {
      serve({ tell: async (requests) => say(texts(await collect(requests)).join("+")) });
      expect((await client().tell(asks("a", "b", "c"))).text).toBe("a+b+c");
      expect((await client().tell(asks())).text).toBe("");
    });

    it("may be answered before its end, and its source is told", async () => {
      let ended = false;
      serve({
        tell: async (requests) => {
          for await (const { text } of requests) if (text === "2") return say("enough");
          return say("all");
        },
      });
      const source = (async function* () {
        try {
          for (let i = 0; ; i += 1) {
            yield { text: String(i) };
            await new Promise((resolve) => setImmediate(resolve));
          }
        } finally {
          ended = true;
        }
      })();
      expect((await client().tell(source)).text).toBe("enough");
      await vi.waitFor(() => expect(ended).toBe(true));
    });

    it("whose source fails gives its caller that failure, and the service an end", async () => {
      let seen: unknown;
      let signal: AbortSignal | undefined;
      serve({
        tell: async (requests, context) => {
          signal = context.signal;
          try {
            return say(String((await collect(requests)).length));
          } catch (error) {
            seen = error;
            throw error;
          }
        },
      });
      const source = (async function* () {
        yield { text: "a" };
        await vi.waitFor(() => expect(signal).toBeDefined());
        throw new Error("the source broke");
      })();
      await expect(client().tell(source)).rejects.toThrow("the source broke");
      await vi.waitFor(() => expect(seen).toBeDefined());
      expect(logged.filter(({ level }) => level >= 50)).toEqual([]);
    });

    it("is refused for a message that breaks the contract, wherever it stands", async () => {
      serve({ tell: async (requests) => say(String((await collect(requests)).length)) });
      expect(await failure(client().tell(asks("a", "\0")))).toMatchObject({ code: "validation_failed" });
    });

    it("lets its caller go at the deadline while the source is silent", async () => {
      serve({ tell: async (requests) => say(String((await collect(requests)).length)) });
      const source = (async function* () {
        yield { text: "a" };
        await new Promise(() => {});
      })();
      expect(await failure(client().tell(source, { timeoutMs: 100 }))).toMatchObject({ code: "deadline_exceeded" });
    });
  });

  it("that streams requests is never taken for complete when its client goes away", async () => {
    const ends: string[] = [];
    let begun = 0;
    serve({
      tell: async (requests, context) => {
        begun += 1;
        const end = await collect(requests).then(
          () => "complete",
          () => "broken off",
        );
        ends.push(context.signal.aborted ? end : `${end}, signal silent`);
        return say(end);
      },
    });
    for (let round = 0; round < 20; round += 1) {
      const source = (async function* () {
        for (let i = 0; i < round; i += 1) yield { text: "part" };
        await vi.waitFor(() => expect(begun).toBe(round + 1), { interval: 5 });
        throw new Error("the source broke");
      })();
      await expect(client().tell(source)).rejects.toThrow("the source broke");
    }
    await vi.waitFor(() => expect(ends.length).toBe(20));
    expect(new Set(ends)).toEqual(new Set(["broken off"]));
  });

  describe("both ways", () => {
    it("answers each request as it comes", async () => {
      serve({
        converse: async function* (requests) {
          for await (const { text } of requests) yield say(`re: ${text}`);
        },
      });
      const heard: string[] = [];
      const source = (async function* () {
        for (let i = 0; i < 5; i += 1) {
          yield { text: String(i) };
          await vi.waitFor(() => expect(heard.length).toBe(i + 1));
        }
      })();
      for await (const { text } of client().converse(source)) heard.push(text);
      expect(heard).toEqual(["re: 0", "re: 1", "re: 2", "re: 3", "re: 4"]);
    });

    it("that is read no further ends the handler and the source", async () => {
      const ended: string[] = [];
      serve({
        converse: async function* (requests) {
          try {
            for await (const { text } of requests) yield say(text);
          } finally {
            ended.push("handler");
          }
        },
      });
      const source = (async function* () {
        try {
          for (let i = 0; ; i += 1) {
            yield { text: String(i) };
            await new Promise((resolve) => setImmediate(resolve));
          }
        } finally {
          ended.push("source");
        }
      })();
      for await (const { text } of client().converse(source)) if (text === "3") break;
      await vi.waitFor(() => expect(ended.sort()).toEqual(["handler", "source"]));
    });
  });
});
