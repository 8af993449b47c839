import { describe, expect, test, vi } from "vitest";
import { describeCalls, echo, failure, say } from "#platform/rpc/conformance.testing.ts";
import type { Context } from "#platform/rpc/context.ts";

describeCalls(({ serve, client }) => {
  describe("in time", () => {
    const forever = (context: Context) =>
      new Promise<never>((_, fail) => context.signal.addEventListener("abort", () => fail(context.signal.reason)));

    test("lets the caller go at the deadline and tells the handler", async () => {
      let signal: AbortSignal | undefined;
      const started = Date.now();
      serve({
        ask: (_request, context) => {
          signal = context.signal;
          return new Promise(() => {});
        },
      });
      expect(await failure(client().ask({}, { timeoutMs: 400 }))).toMatchObject({ status: "DEADLINE_EXCEEDED", code: "deadline_exceeded" });
      expect(Date.now() - started).toBeGreaterThanOrEqual(395);
      await vi.waitFor(() => expect(signal?.aborted).toBe(true));
      expect(signal?.reason).toMatchObject({ status: "DEADLINE_EXCEEDED" });
    });

    test("isn't begun when it is too late", async () => {
      const ask = vi.fn(echo);
      serve({ ask });
      expect(await failure(client().ask({}, { timeoutMs: 0 }))).toMatchObject({ code: "deadline_exceeded" });
      expect(ask).not.toHaveBeenCalled();
    });

    test("has a deadline, also where nobody named one", async () => {
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

    test("is given up with its caller, and the handler is told", async () => {
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

    test("doesn't tell a handler that was in time", async () => {
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
});
