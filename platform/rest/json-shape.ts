import { type DescEnum, type DescField, type DescMessage, fromJson, type JsonValue, type Registry, ScalarType } from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import type { Violation } from "#platform/rejection.ts";
import { exactInteger, type JsonObject, type JsonTree, NumberText } from "#platform/rest/json-text.ts";

/** Where a value stands, from the inside out. */
export type Place = { readonly up: Place | undefined; readonly key: string | number };

/** Takes what is wrong; stops keeping at a bound, so that a body of a million faults has a short answer. */
export class Faults {
  static readonly MAX = 50;
  readonly registry: Registry;
  readonly list: Violation[] = [];

  constructor(registry: Registry) {
    this.registry = registry;
  }

  add(place: Place | undefined, rule: string, message: string): void {
    if (this.list.length < Faults.MAX) this.list.push({ field: pathText(place), rule, message });
  }
}

/** `legs[0].amount`; the body itself is "". A key that is no plain name stands as `notes["a.b"]`. */
export function pathText(place: Place | undefined): string {
  if (place === undefined) return "";
  const up = pathText(place.up);
  if (typeof place.key === "number") return `${up}[${place.key}]`;
  if (!/^[A-Za-z_$][\w$]*$/.test(place.key)) return `${up}[${JSON.stringify(place.key)}]`;
  return up === "" ? place.key : `${up}.${place.key}`;
}

/** Checks a value and gives it as protobuf-es is to read it: without texts of numbers. Faults are added, not thrown. */
type Check = (value: JsonTree, place: Place | undefined, faults: Faults) => JsonTree;

const messageChecks = new WeakMap<DescMessage, Check>();

/** The check of a message's JSON form, made once from its descriptor. */
export function messageCheck(message: DescMessage): Check {
  let check = messageChecks.get(message);
  if (check === undefined) {
    // Put in before its fields are read, for messages that hold themselves.
    let made: Check | undefined;
    check = (value, place, faults) => {
      made ??= makeMessageCheck(message);
      return made(value, place, faults);
    };
    messageChecks.set(message, check);
  }
  return check;
}

function makeMessageCheck(message: DescMessage): Check {
  const wellKnown = wellKnownCheck(message);
  if (wellKnown !== undefined) return wellKnown;
  const fields = new Map<string, { field: DescField; check: Check; other: string | undefined; oneof: string | undefined }>();
  for (const field of message.fields) {
    const entry = { field, check: fieldCheck(field), oneof: field.oneof?.name };
    fields.set(field.name, { ...entry, other: field.jsonName === field.name ? undefined : field.jsonName });
    if (field.jsonName !== field.name) fields.set(field.jsonName, { ...entry, other: field.name });
  }
  return (value, up, faults) => {
    if (!isObject(value)) return wrongType(value, up, faults, "an object");
    let oneofs: Map<string, string> | undefined;
    for (const key of Object.keys(value)) {
      const place: Place = { up, key };
      const entry = fields.get(key);
      if (entry === undefined) {
        faults.add(place, "unknown_field", "There is no such field.");
        continue;
      }
      if (entry.other !== undefined && Object.hasOwn(value, entry.other) && key === entry.field.jsonName)
        faults.add(place, "duplicate_field", `The field is given twice, as ${entry.field.name} and ${entry.field.jsonName}.`);
      const given = value[key] as JsonTree;
      if (given === null && !takesNull(entry.field)) {
        // null means left out (Protobuf's JSON mapping).
        delete value[key];
        continue;
      }
      if (entry.oneof !== undefined) {
        oneofs ??= new Map();
        const first = oneofs.get(entry.oneof);
        if (first !== undefined) faults.add(place, "oneof_conflict", `Only one of ${entry.oneof} may be given, and ${first} is.`);
        oneofs.set(entry.oneof, key);
      }
      const checked = entry.check(given, place, faults);
      // Not `!==`, to which -0 and 0 are the same.
      if (!Object.is(checked, given)) value[key] = checked;
    }
    return value;
  };
}

const takesNull = (field: DescField): boolean => field.fieldKind === "message" && field.message.typeName === "google.protobuf.Value";

function fieldCheck(field: DescField): Check {
  switch (field.fieldKind) {
    case "scalar":
      return scalarCheck(field.scalar);
    case "enum":
      return enumCheck(field.enum);
    case "message":
      return messageCheck(field.message);
    case "list":
      return listCheck(
        field.listKind === "scalar"
          ? scalarCheck(field.scalar)
          : field.listKind === "enum"
            ? enumCheck(field.enum)
            : messageCheck(field.message),
      );
    case "map":
      return mapCheck(
        field.mapKey,
        field.mapKind === "scalar"
          ? scalarCheck(field.scalar)
          : field.mapKind === "enum"
            ? enumCheck(field.enum)
            : messageCheck(field.message),
      );
  }
}

const listCheck =
  (item: Check): Check =>
  (value, up, faults) => {
    if (!Array.isArray(value)) return wrongType(value, up, faults, "an array");
    for (let i = 0; i < value.length; i++) {
      const given = value[i] as JsonTree;
      const checked = item(given, { up, key: i }, faults);
      if (!Object.is(checked, given)) value[i] = checked;
    }
    return value;
  };

function mapCheck(keyType: ScalarType, item: Check): Check {
  const key = keyCheck(keyType);
  return (value, up, faults) => {
    if (!isObject(value)) return wrongType(value, up, faults, "an object");
    for (const name of Object.keys(value)) {
      const place = { up, key: name };
      key(name, place, faults);
      const given = value[name] as JsonTree;
      const checked = item(given, place, faults);
      if (!Object.is(checked, given)) set(value, name, checked);
    }
    return value;
  };
}

function keyCheck(type: ScalarType): (key: string, place: Place, faults: Faults) => void {
  if (type === ScalarType.BOOL)
    return (key, place, faults) => {
      if (key !== "true" && key !== "false") faults.add(place, "invalid_key", "The key must be true or false.");
    };
  const check = scalarCheck(type);
  return (key, place, faults) => void check(key, place, faults);
}

const INTEGERS: Partial<Record<ScalarType, { min: bigint; max: bigint; name: string }>> = {};
for (const type of [ScalarType.INT32, ScalarType.SINT32, ScalarType.SFIXED32])
  INTEGERS[type] = { min: -(2n ** 31n), max: 2n ** 31n - 1n, name: "32-bit integer" };
for (const type of [ScalarType.UINT32, ScalarType.FIXED32])
  INTEGERS[type] = { min: 0n, max: 2n ** 32n - 1n, name: "unsigned 32-bit integer" };
for (const type of [ScalarType.INT64, ScalarType.SINT64, ScalarType.SFIXED64])
  INTEGERS[type] = { min: -(2n ** 63n), max: 2n ** 63n - 1n, name: "64-bit integer" };
for (const type of [ScalarType.UINT64, ScalarType.FIXED64])
  INTEGERS[type] = { min: 0n, max: 2n ** 64n - 1n, name: "unsigned 64-bit integer" };

function scalarCheck(type: ScalarType): Check {
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

const floatCheck =
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

const textCheck: Check = (value, place, faults) => {
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

function enumCheck(type: DescEnum): Check {
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

/** Types whose JSON form isn't an object of their fields. */
function wellKnownCheck(message: DescMessage): Check | undefined {
  switch (message.typeName) {
    case "google.protobuf.Timestamp":
      return formatCheck(message, "invalid_timestamp", "Must be a time such as 2026-01-31T12:00:00Z.");
    case "google.protobuf.Duration":
      return formatCheck(message, "invalid_duration", "Must be a duration such as 1.5s.");
    case "google.protobuf.FieldMask":
      return formatCheck(message, "invalid_field_mask", "Must be field paths in lowerCamelCase, parted by commas.");
    case "google.protobuf.Struct":
      return (value, place, faults) => (isObject(value) ? plain(value, place, faults) : wrongType(value, place, faults, "an object"));
    case "google.protobuf.ListValue":
      return (value, place, faults) => (Array.isArray(value) ? plain(value, place, faults) : wrongType(value, place, faults, "an array"));
    case "google.protobuf.Value":
      return plain;
    case "google.protobuf.Any":
      return anyCheck(message);
  }
  const value = message.fields[0];
  const isWrapper = /^google\.protobuf\.(?:\w+Value)$/.test(message.typeName) && value?.name === "value" && value.fieldKind === "scalar";
  return isWrapper ? scalarCheck(value.scalar) : undefined;
}

const formatCheck =
  (message: DescMessage, rule: string, text: string): Check =>
  (value, place, faults) => {
    if (typeof value !== "string") return wrongType(value, place, faults, "a string");
    try {
      fromJson(message, value);
    } catch {
      faults.add(place, rule, text);
    }
    return value;
  };

function anyCheck(message: DescMessage): Check {
  return (value, place, faults) => {
    if (!isObject(value)) return wrongType(value, place, faults, "an object");
    const plainValue = plain(value, place, faults);
    try {
      fromJson(message, plainValue as JsonValue, { registry: faults.registry });
    } catch {
      faults.add(place, "invalid_any", "Must be a message that is known here, named by @type.");
    }
    return plainValue;
  };
}

/** JSON without a schema: numbers are doubles. */
const plain: Check = (value, place, faults) => {
  if (value instanceof NumberText) return floatCheck(false)(value, place, faults);
  if (typeof value === "string") return textCheck(value, place, faults);
  if (Array.isArray(value)) return listCheck(plain)(value, place, faults);
  if (isObject(value)) return mapCheck(ScalarType.STRING, plain)(value, place, faults);
  return value;
};

const isObject = (value: JsonTree): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof NumberText);

function wrongType(value: JsonTree, place: Place | undefined, faults: Faults, expected: string): null {
  const is =
    value === null
      ? "null"
      : Array.isArray(value)
        ? "an array"
        : isObject(value)
          ? "an object"
          : value instanceof NumberText
            ? "a number"
            : `a ${typeof value}`;
  faults.add(place, "wrong_type", `Must be ${expected}, and is ${is}.`);
  return null;
}

function set(object: JsonObject, key: string, value: JsonTree): void {
  // `__proto__` by plain assignment would change the prototype.
  Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}
