import { create } from "@bufbuild/protobuf";
import { describe, expect, test, vi } from "vitest";
import { AnswerSchema } from "#contracts/polis/conformance/v1/conformance_pb.ts";
import { nobody } from "#platform/access/caller.ts";
import { reject } from "#platform/rejection.ts";
import { collect, describeCalls, failure, nothing, say, texts } from "#platform/rpc/conformance.testing.ts";

describeCalls(({ serve, client, clientOf }) => {
  describe("with a stream of answers", () => {
    test("gets them in order", async () => {
      serve({
        listen: async function* ({ text }) {
          for (let i = 0; i < 100; i += 1) yield say(`${text}${i}`);
        },
      });
      expect(texts(await collect(client().listen({ text: "n" })))).toEqual(Array.from({ length: 100 }, (_, i) => `n${i}`));
    });

    test("starts when it is read", async () => {
      const listen = vi.fn(nothing);
      serve({ listen });
      const stream = client().listen({});
      await client().ask({});
      expect(listen).not.toHaveBeenCalled();
      await collect(stream);
      expect(listen).toHaveBeenCalledOnce();
    });

    test("holds a service up that is faster than its reader", async () => {
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

    test("that is read no further ends at the service", async () => {
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

    test("ends with a rejection or an exception, after what came before it", async () => {
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

    test("is checked for its caller and its request like any other", async () => {
      expect(await failure(collect(clientOf(nobody).listen({})))).toMatchObject({ code: "unauthenticated" });
      expect(await failure((async () => collect(client().listen({ text: "\0" })))())).toMatchObject({ code: "validation_failed" });
    });

    test("lets its reader go at the deadline, also between two answers", async () => {
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

    test("may have no deadline at all", async () => {
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
});
