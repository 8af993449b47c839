import fc from "fast-check";
import { expect, test } from "vitest";
import { Offers } from "#platform/events/offers.ts";
import type { EventRecord } from "#platform/events/record.ts";

/** The record at this offset. */
const at = (offset: number): EventRecord => ({ eventId: String(offset), payload: new Uint8Array(1) }) as EventRecord;
const range = (base: number, count: number): EventRecord[] => Array.from({ length: count }, (_, i) => at(base + i));

test("whatever is offered in whatever order, what is taken follows the position without a gap", () => {
  const steps = fc.array(
    fc.oneof(
      fc.record({ base: fc.nat(30), count: fc.integer({ min: 1, max: 5 }) }),
      fc.record({ max: fc.integer({ min: 1, max: 8 }), position: fc.nat(30) }),
    ),
  );
  fc.assert(
    fc.property(steps, (all) => {
      const offers = new Offers();
      for (const step of all) {
        if ("base" in step) offers.add({ base: BigInt(step.base), records: range(step.base, step.count) });
        else {
          const taken = offers.take(BigInt(step.position), step.max);
          if (taken === undefined) continue;
          expect(taken.records.map(({ eventId }) => Number(eventId))).toEqual(
            range(step.position, taken.records.length).map(({ eventId }) => Number(eventId)),
          );
          expect(taken.lastOffset).toBe(BigInt(step.position + taken.records.length - 1));
          // An offer isn't torn: the last one may go past what was asked for.
          expect(taken.records.length).toBeLessThan(step.max + 5);
        }
      }
    }),
  );
});

test("offers in their order are taken whole, and what was fetched meanwhile isn't given twice", () => {
  const offers = new Offers();
  for (const base of [0, 3, 6]) offers.add({ base: BigInt(base), records: range(base, 3) });
  expect(offers.take(0n, 5)).toEqual({ records: range(0, 6), lastOffset: 5n });
  expect(offers.take(7n, 5)).toEqual({ records: range(7, 2), lastOffset: 8n });
  expect(offers.take(9n, 5)).toBeUndefined();
});

test("what is held up isn't kept without a bound, in number or in size", () => {
  const [many, large] = [new Offers(), new Offers()];
  for (let base = 0; base < 2_050; base++) many.add({ base: BigInt(base), records: [at(base)] });
  for (let base = 0; base < 20; base++) large.add({ base: BigInt(base), records: [{ ...at(base), payload: new Uint8Array(250_000) }] });
  expect([many.take(0n, 1), large.take(0n, 1)]).toEqual([undefined, undefined]);
});
