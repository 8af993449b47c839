import { expect, test } from "vitest";
import { isTransientFailure, makeFailureBook } from "#platform/events/failure-book.ts";
import { defaultEventTimings } from "#platform/events/timings.ts";
import { CallError } from "#platform/rpc/call-error.ts";

/** One try after another, three seconds apart, while `others` events of the type are served in between. */
function tries(times: number, others: (n: number) => number): string[] {
  let nowMs = 1_000_000;
  const book = makeFailureBook(defaultEventTimings, () => nowMs);
  return Array.from({ length: times }, (_, n) => {
    const before = book.servedCount("t");
    for (let i = 0; i < others(n); i++) book.served("t");
    const verdict = book.failed("e", "t", before);
    nowMs += 3_000;
    return verdict;
  });
}

test("an event that fails while its peer serves others is poison after twenty tries and a minute", () => {
  const verdicts = tries(22, () => 1);
  expect(verdicts.indexOf("poison")).toBe(20);
  expect(verdicts.slice(0, 20)).toEqual(Array.from({ length: 20 }, () => "wait"));
});

test("with nobody served it is never poison, however long the peer is away", () => {
  const verdicts = tries(2_000, () => 0);
  expect(verdicts).not.toContain("poison");
  expect(verdicts.indexOf("aside")).toBe(20);
});

test("what was served before the peer went away counts once at the most", () => {
  expect(tries(2_000, (n) => (n === 0 ? 500 : 0))).not.toContain("poison");
});

test("tells what may pass from what won't", () => {
  expect(isTransientFailure(new CallError("UNAVAILABLE", "unavailable", ""))).toBe(true);
  expect(isTransientFailure(new CallError("UNIMPLEMENTED", "unimplemented", ""))).toBe(true);
  expect(isTransientFailure(new CallError("NOT_FOUND", "not_found", ""))).toBe(false);
  expect(isTransientFailure(new CallError("INTERNAL", "internal", ""))).toBe(false);
  expect(isTransientFailure(Object.assign(new Error("gone"), { code: "ECONNRESET" }))).toBe(true);
  expect(isTransientFailure(new TypeError("a fault"))).toBe(false);
});
