import { expect, test, vi } from "vitest";
import { readinessOf } from "#platform/process/readiness.ts";

test("each part is told of, and one that is needed and isn't reached is enough not to be ready", async () => {
  const here = async () => {};
  const away = () => Promise.reject(new Error("away"));
  const orders = { name: "orders", isNeeded: true, ask: here };
  expect(await readinessOf([orders, { name: "redis", isNeeded: false, ask: away }])()).toEqual({
    ready: true,
    checks: { orders: "ok", redis: "unreachable" },
  });
  const throwing = () => {
    throw new Error("not even asked");
  };
  expect((await readinessOf([{ name: "accounts", isNeeded: true, ask: throwing }])()).ready).toBe(false);
  expect(await readinessOf([orders, { name: "accounts", isNeeded: true, ask: away }])()).toEqual({
    ready: false,
    checks: { orders: "ok", accounts: "unreachable" },
  });
});

test("however many ask, a part that doesn't answer is asked once, and again only when that came to an end", async () => {
  vi.useFakeTimers();
  try {
    const questions: PromiseWithResolvers<void>[] = [];
    const ask = () => {
      const question = Promise.withResolvers<void>();
      questions.push(question);
      return question.promise;
    };
    const ready = readinessOf([{ name: "orders", isNeeded: true, ask }]);
    const first = Promise.all(Array.from({ length: 1_000 }, ready));
    await vi.advanceTimersByTimeAsync(2_000);
    expect(new Set((await first).map((each) => each.ready))).toEqual(new Set([false]));
    // Late by far, and still the same question.
    await vi.advanceTimersByTimeAsync(60_000);
    expect((await ready()).ready).toBe(false);
    expect(questions).toHaveLength(1);
    questions[0]?.resolve();
    await vi.advanceTimersByTimeAsync(500);
    const next = ready();
    await vi.advanceTimersByTimeAsync(0);
    questions[1]?.resolve();
    expect([(await next).ready, (await ready()).ready, questions.length]).toEqual([true, true, 2]);
  } finally {
    vi.useRealTimers();
  }
});

test("nothing of a question is left to hold up the process' end once it was answered", async () => {
  vi.useFakeTimers();
  try {
    const ready = readinessOf([
      { name: "orders", isNeeded: true, ask: async () => {} },
      { name: "accounts", isNeeded: true, ask: () => Promise.reject(new Error("away")) },
    ]);
    await ready();
    await vi.advanceTimersByTimeAsync(500);
    expect(vi.getTimerCount()).toBe(0);
  } finally {
    vi.useRealTimers();
  }
});
