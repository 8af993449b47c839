import { expect, test, vi } from "vitest";
import { plainEvent, testTimings } from "#platform/events/event-log.testing.ts";
import { type FetchedRecord, runKafkaPartition } from "#platform/events/kafka-partition.ts";
import { testLog } from "#platform/postgres/database.testing.ts";

const recordsFrom = (from: number, count: number, bytes = 1): FetchedRecord[] =>
  Array.from({ length: count }, (_, n) => ({
    offset: BigInt(from + n),
    record: plainEvent("t", "k", String(from + n), "x".repeat(bytes)),
  }));
const fetched = (from: number, records: readonly FetchedRecord[], nextOffset = from + records.length) => ({
  from: BigInt(from),
  records,
  nextOffset: BigInt(nextOffset),
  highWatermark: BigInt(nextOffset),
});

/** A partition whose batches wait for `handled` each. */
function runs(maxRecords = 1_000) {
  const heard: string[][] = [];
  const waiting: (() => void)[] = [];
  const committed = vi.fn();
  const wantsMore = vi.fn();
  const run = runKafkaPartition(
    { topic: "t", partition: 0, offset: 0n },
    {
      group: "g",
      topics: ["t"],
      maxRecords,
      handle: ({ records }) => {
        heard.push(records.map(({ eventId }) => eventId));
        return new Promise((resolve) => waiting.push(resolve));
      },
    },
    { logger: testLog, timings: testTimings, confirm: async () => {}, commit: committed, wantsMore },
  );
  const handled = async (): Promise<void> => {
    await vi.waitFor(() => expect(waiting).toHaveLength(1));
    waiting.shift()?.();
  };
  return { run, heard, committed, wantsMore, handled };
}

test.each([
  { what: "many records wait", records: recordsFrom(0, 3_500), maxRecords: 1_000 },
  { what: "many bytes wait", records: recordsFrom(0, 4, 1_048_576), maxRecords: 1 },
])("nothing more is fetched while $what, and some is asked for once they are fewer", async ({ records, maxRecords }) => {
  const { run, wantsMore, handled } = runs(maxRecords);
  expect(run.fetchFrom()).toBe(0n);
  run.add(fetched(0, records));
  expect(run.fetchFrom()).toBeUndefined();
  for (let batches = 0; batches < records.length / maxRecords && run.fetchFrom() === undefined; batches++) await handled();
  await vi.waitFor(() => expect(wantsMore).toHaveBeenCalledTimes(1));
  expect(run.fetchFrom()).toBe(BigInt(records.length));
  run.end();
});

test("an answer that isn't what comes next is left: two brokers may have been asked", async () => {
  const { run, heard, handled } = runs();
  run.add(fetched(0, recordsFrom(0, 3)));
  run.add(fetched(0, recordsFrom(0, 2)));
  run.add(fetched(7, recordsFrom(7, 2)));
  expect(run.fetchFrom()).toBe(3n);
  await handled();
  run.add(fetched(3, recordsFrom(3, 1)));
  await handled();
  expect(heard).toEqual([["0", "1", "2"], ["3"]]);
  run.end();
});

test("the position is past a batch once that is handled, and past what isn't shown", async () => {
  const { run, committed, handled } = runs();
  run.add(fetched(0, recordsFrom(0, 2)));
  await vi.waitFor(() => expect(run.lag()).toBe(2));
  expect(committed).not.toHaveBeenCalled();
  await handled();
  await vi.waitFor(() => expect(committed.mock.calls).toEqual([[2n]]));
  run.add(fetched(2, [], 4));
  await vi.waitFor(() => expect(committed.mock.calls).toEqual([[2n], [4n]]));
  expect(run.lag()).toBe(0);
  run.end();
});

test("who is ended while a batch is in hand commits nothing of what follows", async () => {
  const { run, heard, committed, handled } = runs();
  run.add(fetched(0, recordsFrom(0, 1_500)));
  await vi.waitFor(() => expect(heard).toHaveLength(1));
  run.end();
  await handled();
  await run.ended;
  expect(heard).toHaveLength(1);
  expect(committed.mock.calls).toEqual([[1_000n]]);
});
