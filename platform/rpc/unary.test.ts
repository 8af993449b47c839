import { create, equals, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test, vi } from "vitest";
import {
  AnswerSchema,
  type AskRequest,
  AskRequestSchema,
  Everything_Kind,
  EverythingSchema,
} from "#contracts/polis/conformance/v1/conformance_pb.ts";
import { describeCalls, failure, say } from "#platform/rpc/conformance.testing.ts";

describeCalls(({ serve, client, metrics }) => {
  describe("with one answer", () => {
    test("gets it", async () => {
      expect(await client().ask({ text: "hello" })).toEqual(say("hello"));
    });

    test("hands over every kind of field as it is", async () => {
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

    test("leaves what wasn't said unsaid", async () => {
      serve({ ask: async ({ everything }) => create(AnswerSchema, { everything: everything! }) });
      const { everything } = await client().ask({ everything: {} });
      expect(everything).toEqual(create(EverythingSchema));
      expect(everything?.maybe).toBeUndefined();
    });

    test("shares nothing between the two sides, neither the request nor the answer", async () => {
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

    test("is counted with its status", async () => {
      await client().ask({});
      await failure(client().ask({ amount: -1n }));
      const text = await metrics.text();
      expect(text).toMatch(/polis_call_duration_seconds_count\{service="conformance",method="Ask",code="OK"\} \d+/);
      expect(text).toMatch(/polis_call_duration_seconds_count\{service="conformance",method="Ask",code="INVALID_ARGUMENT"\} \d+/);
    });
  });
});
