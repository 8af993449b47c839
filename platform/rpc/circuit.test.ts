import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Circuit, type Entry } from "#platform/rpc/circuit.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const changes = vi.fn();
const letIn = { atMs: expect.any(Number) };

/** A circuit whose peer counts as away, with a call that is still under way, and the call that finds out whether it is back. */
function probed() {
  const circuit = new Circuit(changes);
  const enter = () => circuit.enter() as Entry;
  const early = enter();
  for (let n = 0; n < 10; n++) circuit.unanswered(enter());
  expect(circuit.enter()).toMatchObject({ why: "away" });
  vi.advanceTimersByTime(200);
  const probe = enter();
  expect(circuit.enter()).toMatchObject({ why: "away" });
  return { circuit, early, probe };
}

test.each(["unanswered", "abandoned"] as const)(
  "an earlier call that was %s is no answer to the one with which the peer is tried",
  (end) => {
    const { circuit, early, probe } = probed();
    circuit[end](early);
    vi.advanceTimersByTime(4_000);
    expect(circuit.enter()).toMatchObject({ why: "away" });
    circuit[end](probe);
    vi.advanceTimersByTime(400);
    expect(circuit.enter()).toEqual(letIn);
  },
);

test("the pause doubles each time that the peer is tried in vain, up to 2 s", () => {
  const { circuit, probe } = probed();
  let tried = probe;
  for (const pauseMs of [400, 800, 1_600, 2_000, 2_000]) {
    circuit.unanswered(tried);
    vi.advanceTimersByTime(pauseMs - 1);
    expect(circuit.enter()).toMatchObject({ why: "away" });
    vi.advanceTimersByTime(1);
    tried = circuit.enter() as Entry;
    expect(tried).toEqual(letIn);
  }
  circuit.answered();
  expect([circuit.enter(), circuit.enter()]).toEqual([letIn, letIn]);
});

test("a try that hangs is followed by another, whose peer no late word of the first one hides", () => {
  const { circuit, probe } = probed();
  vi.advanceTimersByTime(5_000);
  const second = circuit.enter();
  expect(second).toEqual(letIn);
  for (const late of ["unanswered", "abandoned"] as const) {
    circuit[late](probe);
    expect(circuit.enter()).toMatchObject({ why: "away" });
  }
  circuit.answered();
  expect(circuit.enter()).toEqual(letIn);
});

test("a peer that answers now and then isn't away, however many calls it leaves unanswered: it is by ten in a row", () => {
  const circuit = new Circuit(changes);
  const silence = (calls: number) => {
    for (let n = 0; n < calls; n++) circuit.unanswered(circuit.enter() as Entry);
  };
  for (let n = 0; n < 3; n++) {
    silence(9);
    expect(circuit.isWorthWaiting).toBe(true);
    circuit.answered();
    expect(circuit.isWorthWaiting).toBe(false);
  }
  silence(9);
  expect(circuit.enter()).toEqual(letIn);
  silence(1);
  expect(circuit.enter()).toMatchObject({ why: "away" });
});

test("retries are a hundred at once and one more for every ten answers, and are never saved up beyond the hundred", () => {
  const circuit = new Circuit(changes);
  const taken = (wanted: number) => Array.from({ length: wanted }, () => circuit.takeRetry()).filter((isGranted) => isGranted).length;
  const answer = (calls: number) => {
    for (let n = 0; n < calls; n++) circuit.answered();
  };
  answer(5_000);
  expect(taken(300)).toBe(100);
  answer(9);
  expect(taken(1)).toBe(0);
  answer(1);
  expect(taken(10)).toBe(1);
});
