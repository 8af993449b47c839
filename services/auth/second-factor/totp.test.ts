import { expect, test } from "vitest";
import { makeRecoveryCodes, meantCode } from "./recovery-codes.ts";
import { codeOfStep, makeSecret, matchingStep, stepAt, toBase32, toUri } from "./totp.ts";

const secret = Buffer.from("12345678901234567890");
const NOW_MS = 1_700_000_000_000;
const step = stepAt(NOW_MS);

// RFC 6238, appendix B: the last six of eight digits.
test.each([
  [59, "287082"],
  [1_111_111_109, "081804"],
  [1_111_111_111, "050471"],
  [1_234_567_890, "005924"],
  [2_000_000_000, "279037"],
  [20_000_000_000, "353130"],
])("at second %i the code is that of the RFC", (seconds, code) => {
  expect(codeOfStep(secret, stepAt(seconds * 1000))).toBe(code);
  expect(matchingStep(secret, code, seconds * 1000, 0)).toBe(stepAt(seconds * 1000));
});

test("a clock may be wrong by a step, and no more", () => {
  const accepted = [-3, -2, -1, 0, 1, 2, 3].filter((apart) => matchingStep(secret, codeOfStep(secret, step + apart), NOW_MS, 0));
  expect(accepted).toEqual([-1, 0, 1]);
});

test("neither the step that was used last nor one before it is good again; the next one is", () => {
  const match = (apart: number) => matchingStep(secret, codeOfStep(secret, step + apart), NOW_MS, step);
  expect([match(-1), match(0), match(1)]).toEqual([undefined, undefined, step + 1]);
});

test.each(["", "28708", "2870822", "٢٨٧٠٨٢", "287 082"])("%j isn't a code", (code) => {
  expect(matchingStep(secret, code, 59_000, 0)).toBeUndefined();
});

test("a secret has 160 bits, and the URI tells an app all of it", () => {
  const made = makeSecret();
  expect(made).toHaveLength(20);
  expect(makeSecret()).not.toEqual(made);
  const uri = new URL(toUri(made, "anna+1@example.com"));
  expect(decodeURIComponent(uri.pathname)).toMatch(/Polis:anna\+1@example\.com$/);
  expect(Object.fromEntries(uri.searchParams)).toEqual({
    secret: toBase32(made),
    issuer: "Polis",
    algorithm: "SHA1",
    digits: "6",
    period: "30",
  });
});

test("ten recovery codes of sixty bits, in groups, as a person may write them", () => {
  const codes = makeRecoveryCodes();
  expect(new Set(codes).size).toBe(10);
  for (const code of codes) expect(code).toMatch(/^[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){2}$/);
  expect(meantCode("o1il-abcd 9xyz")).toBe(meantCode("0111-ABCD-9XYZ"));
});
