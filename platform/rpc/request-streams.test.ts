import { describe, expect, test, vi } from "vitest";
import { collect, describeCalls, failure, say, texts } from "#platform/rpc/conformance.testing.ts";

async function* asks(...words: string[]) {
  for (const text of words) yield { text };
}

describeCalls(({ serve, client, logged }) => {
  describe("with a stream of requests", () => {
    test("gets one answer to all of them", async () => {
      serve({ tell: async (requests) => say(texts(await collect(requests)).join("+")) });
      expect((await client().tell(asks("a", "b", "c"))).text).toBe("a+b+c");
      expect((await client().tell(asks())).text).toBe("");
    });

    test("may be answered before its end, and its source is told", async () => {
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

    test("whose source fails gives its caller that failure, and the service an end", async () => {
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

    test("is refused for a message that breaks the contract, wherever it stands", async () => {
      serve({ tell: async (requests) => say(String((await collect(requests)).length)) });
      expect(await failure(client().tell(asks("a", "\0")))).toMatchObject({ code: "validation_failed" });
    });

    test("lets its caller go at the deadline while the source is silent", async () => {
      serve({ tell: async (requests) => say(String((await collect(requests)).length)) });
      const source = (async function* () {
        yield { text: "a" };
        await new Promise(() => {});
      })();
      expect(await failure(client().tell(source, { timeoutMs: 100 }))).toMatchObject({ code: "deadline_exceeded" });
    });
  });

  test("that streams requests is never taken for complete when its client goes away", async () => {
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
    test("answers each request as it comes", async () => {
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

    test("that is read no further ends the handler and the source", async () => {
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
