import { expect, test } from "vitest";
import { derivedUuid, hashUuid, isUuid, uuidv7 } from "#platform/ids.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[78][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

test("ids made one after another grow, within a millisecond and when the clock is set back", () => {
  const ids = [
    ...Array.from({ length: 10_000 }, () => uuidv7(1_700_000_000_000)),
    ...Array.from({ length: 100 }, () => uuidv7(1_600_000_000_000)),
  ];
  expect([...ids].sort()).toEqual(ids);
  expect(new Set(ids).size).toBe(ids.length);
  expect(ids.every((id) => UUID.test(id))).toBe(true);
});

test("an id carries its millisecond", () => {
  const ms = Date.now() + 3_600_000;
  expect(Number.parseInt(uuidv7(ms).replaceAll("-", "").slice(0, 12), 16)).toBe(ms);
});

test("the same parts derive the same id, and where one part ends matters", () => {
  expect(derivedUuid("a", "bc")).toBe(derivedUuid("a", "bc"));
  expect(derivedUuid("a", "bc")).not.toBe(derivedUuid("ab", "c"));
  expect(derivedUuid("a", "bc")).toMatch(UUID);
  // They lie in databases: another way to derive them would find nothing there.
  expect(derivedUuid("owner", "é", "")).toBe("ac9ee25b-4276-83a7-97ad-770392717e25");
  expect(hashUuid(new Uint8Array([0, 255]))).toBe("06eb7d6a-69ee-89e5-bbdf-749018d3d2ab");
  expect(hashUuid(new Uint8Array([1]))).not.toBe(hashUuid(new Uint8Array([2])));
});

test("a UUID is told by its text in lower case", () => {
  const id = uuidv7();
  expect([id, "00000000-0000-0000-0000-000000000000"].every(isUuid)).toBe(true);
  expect([id.toUpperCase(), ` ${id}`, `${id}\n`, id.replaceAll("-", ""), id.replace(/.$/, "g"), ""].some(isUuid)).toBe(false);
});
