import { expect, test } from "vitest";
import { murmur2, partitionOf } from "#platform/events/partition.ts";

test("hashes as Kafka's own partitioner does (its UtilsTest)", () => {
  const cases: [string, number][] = [
    ["21", -973932308],
    ["foobar", -790332482],
    ["a-little-bit-long-string", -985981536],
    ["a-little-bit-longer-string", -1486304829],
    ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
    ["abc", 479470107],
  ];
  for (const [key, hash] of cases) expect(murmur2(Buffer.from(key))).toBe(hash);
});

test("gives each key one partition of those there are", () => {
  expect(partitionOf("foobar", 1)).toBe(0);
  const partitions = Array.from({ length: 200 }, (_, i) => partitionOf(`key ${i}`, 4));
  expect([...new Set(partitions)].sort()).toEqual([0, 1, 2, 3]);
  expect(Array.from({ length: 200 }, (_, i) => partitionOf(`key ${i}`, 4))).toEqual(partitions);
});
