import fc from "fast-check";
import { expect, test } from "vitest";
import { anyItem, pots } from "#platform/writes/pots.testing.ts";
import type { Ref } from "#platform/writes/table.ts";
import { type Work, WorkQueue } from "#platform/writes/work-queue.ts";

type Named = Work & { readonly number: number; readonly rows: readonly string[] };

/** Work of `size` items, all of which name these rows; without items it names none. */
const work = (number: number, named: readonly string[], size: number): Named => {
  const rows = size === 0 ? [] : named;
  const refs = rows.map((row) => pots.row(row) as unknown as Ref<object>);
  const item = { item: anyItem, command: undefined, named: { locks: refs, refs } };
  const ignore = () => undefined;
  return {
    number,
    rows,
    items: Array.from({ length: size }, () => item),
    guards: undefined,
    givenUp: ignore,
    done: ignore,
    failed: ignore,
  };
};

test("all work is taken, in its order for each row, and no two batches in flight share a row", () => {
  const rows = fc.uniqueArray(fc.constantFrom("a", "b", "c", "d"), { maxLength: 3 });
  const works = fc.array(fc.tuple(rows, fc.integer({ min: 0, max: 12 })), { minLength: 1, maxLength: 40 });
  const steps = fc.infiniteStream(fc.nat(2));
  fc.assert(
    fc.property(works, fc.integer({ min: 1, max: 8 }), steps, (wanted, max, chooseNext) => {
      const queue = new WorkQueue();
      for (const [i, [named, size]] of wanted.entries()) queue.push(work(i, named, size));
      const inFlight: Named[][] = [];
      const taken: Named[] = [];
      while (taken.length < wanted.length || inFlight.length > 0) {
        const isReady = queue.hasReady;
        const batch = chooseNext.next().value === 0 && inFlight.length > 0 ? [] : (queue.take(max) as Named[]);
        if (batch.length > 0) expect(isReady).toBe(true);
        if (batch.length > 0) {
          const others = inFlight.flat().flatMap(({ rows: held }) => held);
          expect(batch.flatMap(({ rows: own }) => own).filter((row) => others.includes(row))).toEqual([]);
          const size = batch.reduce((sum, { items }) => sum + items.length, 0);
          expect(batch.length === 1 || size <= max).toBe(true);
          inFlight.push(batch);
          taken.push(...batch);
        } else {
          // With nothing in flight there is always something to take.
          expect(inFlight.length).toBeGreaterThan(0);
          queue.release(inFlight.shift() as Named[]);
        }
      }
      expect(taken).toHaveLength(wanted.length);
      for (const row of ["a", "b", "c", "d"]) {
        const ofRow = taken.filter(({ rows: named }) => named.includes(row)).map(({ number }) => number);
        expect(ofRow).toEqual([...ofRow].sort((a, b) => a - b));
      }
    }),
    { numRuns: 300 },
  );
});

test("what comes back, and rows that are held for a while, keep nothing waiting for ever, and no two batches share a row", () => {
  const names = fc.uniqueArray(fc.constantFrom("a", "b", "c", "d", "e"), { minLength: 1, maxLength: 3 });
  const works = fc.array(names, { minLength: 1, maxLength: 30 });
  const steps = fc.infiniteStream(fc.nat(9));
  fc.assert(
    fc.property(works, steps, (wanted, chooseNext) => {
      const queue = new WorkQueue();
      for (const [i, named] of wanted.entries()) queue.push(work(i, named, 1));
      const done = new Set<number>();
      const inFlight: Named[][] = [];
      const held = new Map<string, Named[]>();
      let parted = 0;
      const letGo = (row: string): void => {
        queue.free(pots.row(row) as unknown as Ref<object>);
        for (const back of held.get(row) ?? []) queue.push(back);
        held.delete(row);
      };
      while (done.size < wanted.length) {
        const choice = chooseNext.next().value ?? 0;
        const batch = choice < 5 ? (queue.take(4) as Named[]) : [];
        const oldest = inFlight[0];
        if (batch.length > 0) {
          const others = inFlight.flat().flatMap(({ rows }) => rows);
          for (const { rows } of batch) for (const row of rows) expect([...others, ...held.keys()]).not.toContain(row);
          inFlight.push(batch);
        } else if (choice < 8 && oldest !== undefined) {
          inFlight.shift();
          const [first] = oldest[0]?.rows ?? [];
          const isHeld = first !== undefined && choice > 5 && parted++ < 40;
          const waiting = isHeld ? oldest.filter(({ rows }) => rows.includes(first)) : [];
          // Sometimes it is held once its batch has ended, and sometimes free again before.
          if (choice === 6) queue.release(oldest);
          if (isHeld) queue.hold(pots.row(first) as unknown as Ref<object>);
          if (isHeld) held.set(first, waiting);
          if (isHeld && choice === 7) letGo(first);
          if (choice !== 6) queue.release(oldest);
          for (const { number } of oldest) if (!waiting.some((one) => one.number === number)) done.add(number);
        } else if (held.size > 0) letGo([...held.keys()][0] as string);
        else if (inFlight.length === 0) expect(queue.hasReady).toBe(true);
      }
    }),
    { numRuns: 500 },
  );
});

test("what came first goes first, also where it had to wait", () => {
  const queue = new WorkQueue();
  queue.push(work(0, ["a"], 1));
  const first = queue.take(1);
  for (const [i, row] of ["b", "a", "c", "d"].entries()) queue.push(work(i + 1, [row], 1));
  expect((queue.take(1) as Named[]).map(({ number }) => number)).toEqual([1]);
  queue.release(first);
  expect((queue.take(2) as Named[]).map(({ number }) => number)).toEqual([2, 3]);
});

test("work for other rows goes at once, however much waits for a row in flight", () => {
  const queue = new WorkQueue();
  queue.push(work(0, ["a"], 1));
  const first = queue.take(10);
  for (let number = 1; number < 2_000; number++) queue.push(work(number, ["a"], 1));
  queue.push(work(2_000, ["b"], 1));
  expect((queue.take(10) as Named[]).map(({ number }) => number)).toEqual([2_000]);
  queue.release(first);
  expect((queue.take(10) as Named[]).map(({ number }) => number)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});
