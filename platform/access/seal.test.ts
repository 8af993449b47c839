import { expect, test } from "vitest";
import { seal, unseal } from "#platform/access/seal.ts";
import { secretsOf } from "#platform/access/secrets.ts";

const [old, current] = ["an old secret of thirty-two characters", "a new secret of thirty-two characters and more"];
const keys = secretsOf([current, old]).keys("test");
const bytes = new TextEncoder().encode("what nobody reads");

test("what is sealed opens under its key and its name alone, and never twice looks the same", () => {
  const sealed = seal(keys, bytes, "row 1");
  expect(unseal(keys, sealed, "row 1")).toEqual(Buffer.from(bytes));
  expect(unseal(keys, sealed, "row 2")).toBeUndefined();
  expect(unseal(secretsOf([current]).keys("another purpose"), sealed, "row 1")).toBeUndefined();
  expect(seal(keys, bytes, "row 1")).not.toEqual(sealed);
  expect(Buffer.from(sealed).includes(Buffer.from(bytes))).toBe(false);
});

test("what was sealed before the secret was changed opens while the old one counts as well", () => {
  const sealed = seal(secretsOf([old]).keys("test"), bytes, "row 1");
  expect(unseal(keys, sealed, "row 1")).toEqual(Buffer.from(bytes));
  expect(unseal(secretsOf([current]).keys("test"), sealed, "row 1")).toBeUndefined();
});

test("what was changed in any byte, or cut, doesn't open", () => {
  const sealed = Buffer.from(seal(keys, bytes, "row 1"));
  for (const [at] of sealed.entries()) {
    const changed = Buffer.from(sealed);
    changed[at] = (changed[at] as number) ^ 1;
    expect(unseal(keys, changed, "row 1")).toBeUndefined();
  }
  for (const length of [0, 11, 27, sealed.length - 1]) expect(unseal(keys, sealed.subarray(0, length), "row 1")).toBeUndefined();
});
