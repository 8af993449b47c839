import { type DescField, type DescMessage, fromJson, type JsonValue, ScalarType } from "@bufbuild/protobuf";
import { type Check, type Faults, isObject, type Place, wrongType } from "#platform/rest/json-faults.ts";
import { enumCheck, floatCheck, scalarCheck, textCheck } from "#platform/rest/json-scalars.ts";
import { type JsonObject, type JsonTree, NumberText } from "#platform/rest/json-text.ts";

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

function set(object: JsonObject, key: string, value: JsonTree): void {
  // `__proto__` by plain assignment would change the prototype.
  Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}
