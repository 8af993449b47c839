import { create } from "@bufbuild/protobuf";
import { describe, expect, test, vi } from "vitest";
import { ConformanceService } from "#contracts/polis/conformance/v1/conformance_pb.ts";
import { serviceCaller } from "#platform/access/caller.ts";
import { peersOf } from "#platform/rpc/client.ts";
import { collect, describeCalls, failure, say, user } from "#platform/rpc/conformance.testing.ts";
import type { CallOptions, Context } from "#platform/rpc/context.ts";
import { withoutCalls } from "#platform/rpc/no-calls.ts";
import { newTraceparent } from "#platform/telemetry/trace-context.ts";

describeCalls(({ serve, client, transport }) => {
  describe("made while another is served", () => {
    const peers = (context: Context) => peersOf(context, { service: "tester", transportFor: transport })(ConformanceService);

    test("takes along its user, deadline and trace, and acts as its service", async () => {
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

    test("takes along where the first of them came from", async () => {
      const origin = { address: "2001:db8::7", userAgent: "Böses \r\n Gerät" };
      const seen: (Context["origin"] | undefined)[] = [];
      serve({
        ask: async ({ text }, context) => {
          seen.push(context.origin);
          return text === "outer" ? peers(context).ask({ text: "inner" }) : say(text);
        },
      });
      const { method } = ConformanceService;
      const call = {
        caller: user,
        deadlineMs: Date.now() + 5000,
        cancellation: undefined,
        traceparent: undefined,
        idempotencyKey: undefined,
      };
      await transport().unary(method.ask, create(method.ask.input, { text: "outer" }), { ...call, origin });
      await transport().unary(method.ask, create(method.ask.input, { text: "nobody outside" }), call);
      expect(seen).toEqual([origin, origin, undefined]);
    });

    test("ends with it, at its deadline or when it is given up", async () => {
      for (const makeOptions of [
        () => ({ timeoutMs: 400 }),
        () => ({ signal: AbortSignal.timeout(400) }),
      ] satisfies (() => CallOptions)[]) {
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

    test("begins a new trace where there is none, or a broken one", async () => {
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

    test("in a transaction throws, and after it doesn't", async () => {
      await expect(withoutCalls(() => client().ask({}))).rejects.toThrow("inside a transaction");
      await expect(withoutCalls(async () => collect(client().listen({})))).rejects.toThrow("inside a transaction");
      expect((await client().ask({ text: "after" })).text).toBe("after");
    });
  });
});
