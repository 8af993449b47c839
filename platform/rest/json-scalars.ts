import { type DescEnum, ScalarType } from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import { type Check, type Faults, type Place, wrongType } from "#platform/rest/json-faults.ts";
import { exactInteger, NumberText } from "#platform/rest/json-text.ts";

const INTEGERS: Partial<Record<ScalarType, { min: bigint; max: bigint; name: string }>> = {};
for (const type of [ScalarType.INT32, ScalarType.SINT32, ScalarType.SFIXED32])
  INTEGERS[type] = { min: -(2n ** 31n), max: 2n ** 31n - 1n, name: "32-bit integer" };
for (const type of [ScalarType.UINT32, ScalarType.FIXED32])
  INTEGERS[type] = { min: 0n, max: 2n ** 32n - 1n, name: "unsigned 32-bit integer" };
for (const type of [ScalarType.INT64, ScalarType.SINT64, ScalarType.SFIXED64])
  INTEGERS[type] = { min: -(2n ** 63n), max: 2n ** 63n - 1n, name: "64-bit integer" };
for (const type of [ScalarType.UINT64, ScalarType.FIXED64])
  INTEGERS[type] = { min: 0n, max: 2n ** 64n - 1n, name: "unsigned 64-bit integer" };

/** The check of a scalar's JSON form. */
export function scalarCheck(type: ScalarType): Check {
  const range = INTEGERS[type];
  if (range !== undefined) return integerCheck(range.min, range.max, range.name);
  switch (type) {
    case ScalarType.BOOL:
      return (value, place, faults) => (typeof value === "boolean" ? value : wrongType(value, place, faults, "true or false"));
    case ScalarType.BYTES:
      return bytesCheck;
    case ScalarType.STRING:
      return textCheck;
    default:
      return floatCheck(type === ScalarType.FLOAT);
  }
}

function integerCheck(min: bigint, max: bigint, name: string): Check {
  const [low, high] = [Number(min), Number(max)];
  const article = name.startsWith("u") ? "an" : "a";
  const outOfRange = (place: Place | undefined, faults: Faults) => {
    faults.add(place, "out_of_range", `Must be ${article} ${name}, from ${min} to ${max}.`);
    return null;
  };
  const isWide = max > BigInt(Number.MAX_SAFE_INTEGER);
  return (value, place, faults) => {
    if (typeof value === "number") {
      // Short enough to be exact; adding 0 makes -0 a 0.
      if (Number.isInteger(value)) return value >= low && value <= high ? value + 0 : outOfRange(place, faults);
      faults.add(place, "not_an_integer", "Must be an integer, without a fraction.");
      return null;
    }
    if (value instanceof NumberText) {
      const exact = exactInteger(value.text);
      if (exact === undefined) {
        if (Math.abs(Number(value.text)) >= 2 ** 64) return outOfRange(place, faults);
        faults.add(place, "not_an_integer", "Must be an integer, without a fraction.");
        return null;
      }
      if (exact < min || exact > max) return outOfRange(place, faults);
      if (!isWide || (exact <= Number.MAX_SAFE_INTEGER && exact >= Number.MIN_SAFE_INTEGER)) return Number(exact);
      faults.add(place, "unsafe_integer", "A JSON number past 2^53 loses precision on its way: write it as a string.");
      return null;
    }
    if (typeof value !== "string") return wrongType(value, place, faults, `${article} ${name}`);
    if (!/^-?(?:0|[1-9]\d{0,19})$/.test(value)) {
      const isDigits = /^-?\d+$/.test(value);
      if (isDigits) return outOfRange(place, faults);
      faults.add(place, /^-?\d+\.\d+$/.test(value) ? "not_an_integer" : "wrong_type", `Must be ${article} ${name}.`);
      return null;
    }
    const exact = BigInt(value);
    return exact < min || exact > max ? outOfRange(place, faults) : value;
  };
}

/** Numbers that JSON has, and the three that it writes as texts. */
export const floatCheck =
  (isSingle: boolean): Check =>
  (value, place, faults) => {
    if (value === "NaN" || value === "Infinity" || value === "-Infinity") return value;
    let number: number | undefined;
    if (typeof value === "number") number = value;
    else if (value instanceof NumberText) number = Number(value.text);
    else if (typeof value === "string" && /^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(value)) number = Number(value);
    if (number === undefined) return wrongType(value, place, faults, "a number");
    if (Number.isFinite(isSingle ? Math.fround(number) : number)) return number;
    faults.add(place, "out_of_range", `Must be a number that ${isSingle ? "32" : "64"} bits hold.`);
    return null;
  };

export const textCheck: Check = (value, place, faults) => {
  if (typeof value !== "string") return wrongType(value, place, faults, "a string");
  if (!value.isWellFormed()) faults.add(place, "invalid_text", "Holds half of a surrogate pair, which no UTF-8 can carry.");
  return value;
};

const bytesCheck: Check = (value, place, faults) => {
  if (typeof value !== "string") return wrongType(value, place, faults, "a string of base64");
  try {
    base64Decode(value);
  } catch {
    faults.add(place, "invalid_base64", "Must be base64.");
  }
  return value;
};

/** By name or number, one that the contract knows. */
export function enumCheck(type: DescEnum): Check {
  if (type.typeName === "google.protobuf.NullValue") return (value) => value;
  const names = new Set(type.values.map((value) => value.name));
  const numbers = new Set(type.values.map((value) => value.number));
  return (value, place, faults) => {
    if (typeof value === "string" ? names.has(value) : typeof value === "number" && numbers.has(value)) return value;
    if (typeof value !== "string" && typeof value !== "number") return wrongType(value, place, faults, "a string");
    faults.add(place, "unknown_enum_value", `Must be one of ${[...names].join(", ")}.`);
    return null;
  };
}
