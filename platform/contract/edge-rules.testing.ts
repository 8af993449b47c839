import { type Message, ScalarType } from "@bufbuild/protobuf";
import { StringValueSchema, TimestampSchema, UInt32ValueSchema } from "@bufbuild/protobuf/wkt";
import { Ignore } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import fc from "fast-check";
import type { FieldInit, MadeField } from "#platform/contract/made-type.testing.ts";

// Fields under rules made up at random, known to the fast pass or not; and messages that aren't as protobuf-es makes them.

type Said = NonNullable<FieldInit["type"]>;
type Rules = fc.Arbitrary<Said>;

/** Some of these, and few: under many rules hardly anything is valid. */
const some = <T>(fields: { readonly [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<Partial<T>> =>
  fc
    .record(fields as Record<string, fc.Arbitrary<unknown>>)
    .chain((all) => fc.subarray(Object.entries(all), { maxLength: Math.min(2, Object.keys(all).length) }))
    .map((kept) => Object.fromEntries(kept) as Partial<T>);
const length = fc.bigInt({ min: 0n, max: 3n });
const words = fc.subarray(["", "a", "aa", "RUB", "\u{1d44e}"], { minLength: 1 });
const PATTERNS = [
  "^[A-Z]{3}$",
  "^a*$",
  "^[a-z][a-z-]{0,31}$",
  "^a",
  "a$",
  "^.$",
  "^[^a]$",
  "^a?a?$",
  "^a\\n$",
  "^a{1001}$",
  "^-?1$",
  "^\\s*$",
];

const stringRules: Rules = some({
  const: fc.constantFrom("", "a", "\u{1d44e}"),
  len: length,
  minLen: length,
  maxLen: length,
  maxBytes: length,
  pattern: fc.constantFrom(...PATTERNS),
  prefix: fc.constant("a"),
  in: words,
  notIn: words,
  wellKnown: fc.constantFrom(
    { case: "uuid" as const, value: true },
    { case: "uuid" as const, value: false },
    { case: "tuuid" as const, value: true },
    { case: "hostname" as const, value: true },
  ),
  example: words,
}).map((value) => ({ case: "string" as const, value }) as Said);

const bounds = <T>(values: fc.Arbitrary<T>) => ({
  greaterThan: fc.record({ case: fc.constantFrom("gt" as const, "gte" as const), value: values }),
  lessThan: fc.record({ case: fc.constantFrom("lt" as const, "lte" as const), value: values }),
});
const choices = <T>(values: fc.Arbitrary<T>) => ({
  const: values,
  in: fc.array(values, { minLength: 1, maxLength: 4 }),
  notIn: fc.array(values, { minLength: 1, maxLength: 4 }),
  example: fc.array(values, { maxLength: 1 }),
});
const numberRules = <T>(name: string, values: fc.Arbitrary<T>): Rules =>
  some({ ...bounds(values), ...choices(values) }).map((value) => ({ case: name, value }) as Said);

const small = fc.integer({ min: -2, max: 2 });
const natural = fc.nat({ max: 3 });
const long = fc.constantFrom(-(2n ** 63n), -1n, 0n, 1n, 2n ** 63n - 1n);

const CONTENTS: readonly (readonly [MadeField["of"], Rules])[] = [
  // Of which there are the most.
  ...Array.from({ length: 5 }, () => [ScalarType.STRING, stringRules] as const),
  [ScalarType.INT32, numberRules("int32", small)],
  [ScalarType.SINT32, numberRules("sint32", small)],
  [ScalarType.FIXED32, numberRules("fixed32", natural)],
  [ScalarType.UINT32, numberRules("uint32", natural)],
  [ScalarType.SFIXED32, numberRules("sfixed32", small)],
  [ScalarType.INT64, numberRules("int64", long)],
  [ScalarType.UINT64, numberRules("uint64", natural.map(BigInt))],
  [ScalarType.SFIXED64, numberRules("sfixed64", long)],
  [ScalarType.DOUBLE, numberRules("double", small)],
  [ScalarType.BOOL, some({ const: fc.boolean() }).map((value) => ({ case: "bool" as const, value }))],
  [ScalarType.BYTES, some({ minLen: length }).map((value) => ({ case: "bytes" as const, value }))],
  ["enum", some({ definedOnly: fc.boolean(), ...choices(fc.constantFrom(0, 1, 5, 7)) }).map((value) => ({ case: "enum", value }) as Said)],
  ["itself", fc.constant({ case: undefined })],
  [StringValueSchema, stringRules],
  [UInt32ValueSchema, numberRules("uint32", natural)],
  [TimestampSchema, some({ gtNow: fc.constant(true), const: fc.constant({}) }).map((value) => ({ case: "timestamp", value }) as Said)],
];

const cel = fc.oneof({ weight: 9, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.constant([{ id: "no", expression: "false" }]) });
const saidOfFields = some({
  required: fc.boolean(),
  ignore: fc.constantFrom(Ignore.UNSPECIFIED, Ignore.IF_ZERO_VALUE, Ignore.ALWAYS),
  cel,
});

/** Of any type, presence and rules; some of the rules are none for a field of that type. */
export const madeFields: fc.Arbitrary<MadeField> = fc.constantFrom(...CONTENTS).chain(([of, own]) => {
  const rules = fc.oneof(
    { weight: 15, arbitrary: own },
    { weight: 5, arbitrary: fc.constant({ case: undefined }) },
    { weight: 1, arbitrary: stringRules },
  );
  const items = fc.tuple(saidOfFields, rules).map(([said, type]) => ({ ...said, required: false, type }) as object as FieldInit);
  const keys = fc.tuple(saidOfFields, stringRules).map(([said, type]) => ({ ...said, required: false, type }) as object as FieldInit);
  const lists = some({ minItems: length, maxItems: length, items, unique: fc.boolean() });
  const maps = some({ minPairs: length, maxPairs: length, keys, values: items });
  return fc
    .tuple(fc.constantFrom("single", "optional", "list", "map", "case"), saidOfFields, rules, lists, maps)
    .map(([as, said, type, list, map]): MadeField => {
      const whole = as === "list" ? { case: "repeated", value: list } : as === "map" ? { case: "map", value: map } : type;
      const isSingle = as === "optional" && typeof of === "object";
      return { name: "held", of, as: isSingle ? "single" : as, rules: { ...said, type: whole } as object as FieldInit };
    });
});

const JUNK = [
  ...[undefined, null, 0, -0, 1, Number.NaN, 0.5, 2 ** 40, 0n, 1n, -(2n ** 70n), "", "a", "0", "1", true, false],
  ...[{}, { $typeName: "test.v1.Other" }, { length: 0 }, [], [undefined], [null], [{}], new Uint8Array(0), new Uint8Array(1)],
  ...[{ case: undefined }, { case: "house", value: "sales" }, { case: "nobody", value: 1 }, { case: "owner" }],
];

/** The message with each thing in it, one after the other, replaced by each that doesn't belong there; good till the next. */
export function* spoilt(message: Message): Generator<Message> {
  const copy = structuredClone(message);
  for (const [holder, key] of placesIn(copy)) {
    const good = holder[key];
    for (const junk of JUNK) {
      holder[key] = junk;
      yield copy;
    }
    holder[key] = good;
  }
}

type Holder = Record<string, unknown>;

const placesIn = (value: unknown): [Holder, string][] =>
  typeof value !== "object" || value === null || value instanceof Uint8Array
    ? []
    : Object.entries(value).flatMap(([key, held]) => [[value as Holder, key] as [Holder, string], ...placesIn(held)]);
