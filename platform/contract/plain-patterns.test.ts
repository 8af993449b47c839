import { create, ScalarType } from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import fc from "fast-check";
import { expect, test } from "vitest";
import { madeType } from "#platform/contract/made-type.testing.ts";
import { plainPattern } from "#platform/contract/plain-patterns.ts";

const validator = createValidator();

/** A text under RE2: `valid` where it matches. */
function judge(pattern: string): (text: string) => string {
  const schema = madeType([{ name: "held", of: ScalarType.STRING, rules: { type: { case: "string", value: { pattern } } } }]);
  return (held) => validator.validate(schema, create(schema, { held } as Record<string, unknown>)).kind;
}

test.each(["^[A-Z]{3}$", "^[a-z][a-z-]{0,31}$", "^$", "^", "^a", "^a+$", "^[0-9a-f]{2,}-$", "^\\+[1-9][0-9]{6,14}$", "^[+-]a$"])(
  "%s is a plain pattern",
  (pattern) => {
    expect(plainPattern(pattern)?.source).toBe(pattern);
  },
);

test.each([
  ["a newline isn't of every `.`", "^.$"],
  ["a space of Unicode isn't every `\\s`", "^\\s$"],
  ["an astral character is one of RE2's", "^[^a]$"],
  ["classes by name", "^[[:alpha:]]$"],
  ["escaped letters", "^\\d\\w\\b$"],
  ["flags", "^(?i)a$"],
  ["groups and alternatives", "^(a|b)$"],
  ["a text anywhere, which RegExp looks for from each place", "b[a-z]+c$"],
  ["repeats that share a text in many ways", "^a*a*a*b$"],
  ["repeats that RE2 doesn't take", "^a{1001}$"],
  ["repeats the wrong way round", "^a{3,2}$"],
  ["ranges the wrong way round", "^[z-a]$"],
  ["repeats of repeats", "^a**$"],
  ["lazy repeats", "^a+?$"],
  ["an end that is a dollar sign", "^a\\$"],
  ["what is beyond ASCII", "^é$"],
  ["long ones", `^${"a".repeat(100)}$`],
])("%s: left to RE2", (_, pattern) => {
  expect(plainPattern(pattern)).toBeUndefined();
});

const signs = fc.constantFrom(
  ..."aabzAZ019-_:/ .*+?{}[]()|^$\\,&~",
  "{2}",
  "{0,2}",
  "{1,}",
  "[a-z]",
  "[0-9A-F-]",
  "[.+]",
  "\\.",
  "\\-",
  "é",
);
const patterns = fc.array(signs, { maxLength: 6 }).chain((all) => fc.constantFrom(`^${all.join("")}$`, `^${all.join("")}`));
const units = fc.constantFrom(..."aabzAZ019-_:/ .*+?{}[]()|^$\\,&~", "\n", "\r", "\u2028", "\u017f", "\u{1d44e}", "\ud835", "\udc4e", "\0");

test("a plain pattern matches what RE2 matches, and nothing else", () => {
  let [plain, matched] = [0, 0];
  const property = fc.property(patterns, fc.array(fc.string({ unit: units, maxLength: 6 }), { maxLength: 5 }), (pattern, some) => {
    const regexp = plainPattern(pattern);
    if (regexp === undefined) return;
    plain++;
    const judged = judge(pattern);
    const own = fc.sample(fc.stringMatching(regexp), { numRuns: 3, seed: pattern.length });
    for (const text of [...some, ...own, ...own.map((match) => `${match}\n`), ...own.map((match) => `${match}\u{1d44e}`)]) {
      const matches = regexp.test(text);
      if (matches) matched++;
      expect(judged(text), `${pattern} on ${JSON.stringify(text)}`).toBe(matches ? "valid" : "invalid");
    }
  });
  fc.assert(property, { numRuns: 1500 });
  expect(plain).toBeGreaterThan(200);
  expect(matched).toBeGreaterThan(200);
});
