import { afterEach, expect, test, vi } from "vitest";
import { remembered } from "./remembered.ts";

afterEach(() => vi.useRealTimers());
const HOUR_MS = 3_600_000;

/** Answers with how often it was asked, unless it is away; what is asked for waits until it is let go. */
function source() {
  let times = 0;
  let isAway = false;
  return {
    load: async () => {
      times += 1;
      const answer = times;
      await Promise.resolve();
      if (isAway) throw new Error("away");
      return answer;
    },
    goes: (away: boolean) => {
      isAway = away;
    },
    times: () => times,
  };
}

test("it is loaded once for all who come at once, and for an hour", async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  const { load, times } = source();
  const get = remembered(load);
  expect(await Promise.all([get(), get(), get()])).toEqual([1, 1, 1]);
  vi.advanceTimersByTime(HOUR_MS - 1);
  expect(await get()).toBe(1);
  expect(times()).toBe(1);
});

test("after an hour it is loaded again, which nobody waits for", async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  const { load, times } = source();
  const get = remembered(load);
  await get();
  vi.advanceTimersByTime(HOUR_MS);
  expect(await Promise.all([get(), get()])).toEqual([1, 1]);
  await vi.waitFor(async () => expect(await get()).toBe(2));
  expect(times()).toBe(2);
});

test("what can't be loaded is asked for again after a second; what was there serves on", async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  const { load, goes, times } = source();
  const get = remembered(load);
  goes(true);
  for (let n = 0; n < 3; n += 1) await expect(get()).rejects.toThrow("away");
  expect(times()).toBe(1);
  goes(false);
  vi.advanceTimersByTime(1_000);
  expect(await get()).toBe(2);
  goes(true);
  vi.advanceTimersByTime(HOUR_MS);
  expect(await get()).toBe(2);
  await vi.waitFor(() => expect(times()).toBe(3));
  expect(await get()).toBe(2);
});
