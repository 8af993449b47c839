import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { AnswerSchema, type AskRequestSchema } from "#contracts/polis/conformance/v1/conformance_pb.ts";
import { reject } from "#platform/rejection.ts";
import { CallError, type Status, statuses } from "#platform/rpc/call-error.ts";
import { collect, describeCalls, failure, say } from "#platform/rpc/conformance.testing.ts";
import { MESSAGE_BYTES_MAX } from "#platform/rpc/handover.ts";

describeCalls(({ serve, client, logged }) => {
  describe("that breaks the contract", () => {
    test("is told every field and rule, by the names of JSON", async () => {
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

    test.each<[string, MessageInitShape<typeof AskRequestSchema>, string]>([
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

    test("with violations without end is told the first of them", async () => {
      const error = await failure(client().ask({ parts: Array.from({ length: 1000 }, () => ({})) }));
      expect(error.violations.length).toBe(32);
    });

    test.each<[string, object]>([
      ["a number where a bigint belongs", { amount: 1 }],
      ["a bigint out of range", { amount: 2n ** 63n }],
      ["an integer out of range", { everything: { anInt32: 2 ** 31 } }],
      ["a fraction where an integer belongs", { everything: { aUint32: 0.5 } }],
      ["a number where a text belongs", { text: 5 }],
      ["another message", { everything: say("") }],
    ])("in its types is the caller's fault, a TypeError: %s", async (_, request) => {
      await expect(client().ask(request as never)).rejects.toThrow(TypeError);
    });

    test("over the size of a message is refused, and just under it is not", async () => {
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

    test("refuses an idempotency key that a header couldn't carry", async () => {
      for (const idempotencyKey of ["", " a", "ключ", "a\n", "a".repeat(256)])
        expect(await failure(client().ask({}, { idempotencyKey }))).toMatchObject({ code: "validation_failed" });
    });
  });

  describe("that is refused", () => {
    test.each<[string, Status]>([
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

    test("gets the contract's text, or the detail where there is one", async () => {
      serve({ ask: async ({ text }) => reject("failed_precondition", text === "" ? undefined : text) });
      expect((await failure(client().ask({}))).message).toBe("Not now.");
      expect((await failure(client().ask({ text: "Nicht jetzt: %41 äöü\n🎉" }))).message).toBe("Nicht jetzt: %41 äöü\n🎉");
      expect(logged).toEqual([]);
    });

    test("by a code that the contract doesn't declare is a fault, and told to the log", async () => {
      serve({ ask: async () => reject("surprise"), change: async () => reject("idempotency_key_reused") });
      expect(await failure(client().ask({}))).toMatchObject({ status: "INTERNAL", code: "internal" });
      expect(logged.some(({ err }) => err.message.includes("surprise"))).toBe(true);
      expect(await failure(client().change({}))).toMatchObject({ status: "ALREADY_EXISTS", code: "idempotency_key_reused" });
    });

    test.each(Object.keys(statuses) as Status[])("by a peer with %s gets what the peer said, whole", async (status) => {
      const violations = [{ field: "legs[0].amount", rule: "int64.gt", message: "must be > 0 – ü" }];
      serve({
        ask: async () => {
          throw new CallError(status, "peer_code", "A text of the peer.", { violations, retryAfterMs: 1499.2 });
        },
      });
      const error = await failure(client().ask({}));
      expect(error).toMatchObject({ status, code: "peer_code", message: "A text of the peer.", violations, retryAfterMs: 1500 });
    });

    test("knows which call it was, for its own log, and isn't told which one failed behind it", async () => {
      const fail = () => {
        throw Object.assign(new CallError("UNAVAILABLE", "unavailable", "No."), { called: "polis.secret.v1.SecretService/Ask" });
      };
      async function* none() {}
      serve({ ask: fail, listen: fail, tell: fail, converse: fail });
      for (const [name, failed] of [
        ["Ask", failure(client().ask({}))],
        ["Listen", failure(collect(client().listen({})))],
        ["Tell", failure(client().tell(none()))],
        ["Converse", failure(collect(client().converse(none())))],
      ] as const) {
        const error = await failed;
        expect(error).toMatchObject({ message: "No.", called: `polis.conformance.v1.ConformanceService/${name}` });
        expect(JSON.stringify(error)).not.toContain("secret");
      }
    });

    test.each<[string, () => Promise<never>]>([
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

    test("is refused for an answer that may not leave: too large, ill-formed, of another type", async () => {
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
});
