import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { EventRecord } from "#platform/events/record.ts";
import { decodeRecordBatch, encodeRecordBatch } from "#platform/events/record-batch.ts";

const text = fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("orders.events", "", "Ж", "\u0000", "x".repeat(300)));
const record: fc.Arbitrary<EventRecord> = fc.record({
  topic: text,
  key: text,
  eventId: text,
  type: text,
  occurredAtMs: fc.oneof(fc.nat(), fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })),
  traceparent: text,
  actor: text,
  causationId: text,
  payload: fc.uint8Array({ maxLength: 400 }),
});
const plain = (records: readonly EventRecord[]) => records.map((one) => ({ ...one, payload: [...one.payload] }));

describe("a batch of records", () => {
  test("comes out as it went in", () => {
    fc.assert(
      fc.property(fc.array(record, { maxLength: 30 }), (records) => {
        expect(plain(decodeRecordBatch(encodeRecordBatch(records)))).toEqual(plain(records));
      }),
    );
  });

  test("that is cut off, or of another version, is refused", () => {
    fc.assert(
      fc.property(
        fc.array(record, { minLength: 1, maxLength: 3 }),
        fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
        (records, part) => {
          const bytes = encodeRecordBatch(records);
          expect(() => decodeRecordBatch(bytes.subarray(0, Math.floor(bytes.length * part)))).toThrow(/record batch/);
        },
      ),
    );
    const bytes = Buffer.from(encodeRecordBatch([]));
    bytes[0] = 9;
    expect(() => decodeRecordBatch(bytes)).toThrow("version 9");
  });

  test("holds a text that many records share once, and payloads as they are", () => {
    const one = {
      topic: "t".repeat(50),
      key: "k",
      eventId: "e",
      type: "y".repeat(50),
      occurredAtMs: 1,
      traceparent: "",
      actor: "",
      causationId: "",
      payload: Buffer.from("payload"),
    };
    const [single, many] = [encodeRecordBatch([one]), encodeRecordBatch(Array.from({ length: 100 }, () => one))];
    expect(many.length).toBeLessThan(single.length + 100 * 25);
    expect(decodeRecordBatch(many)[99]?.payload.buffer).toBe(many.buffer);
  });
});
