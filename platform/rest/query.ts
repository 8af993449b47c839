import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import type { Violation } from "#platform/rejection.ts";
import type { JsonObject, JsonTree } from "#platform/rest/json-text.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { validationFailed } from "#platform/rpc/validation.ts";

/** More parameters than any contract has. */
const PARAMETERS_MAX = 200;

/**
 * Reads a raw query (without its `?`) into a JSON tree of the message: `page_size` or `pageSize`, `filter.paid=true`, a repeated
 * field by repeating it. Keys stay as the client wrote them, so that faults name them so. An empty value counts as left out.
 * Throws CallError `validation_failed` that names every parameter at fault.
 *
 * @param bound fields that the path or the body holds, which the query may not name
 * @param ignoresUnknown what names no field is passed over
 */
export function readQuery(schema: DescMessage, rawQuery: string, bound: ReadonlySet<DescField>, ignoresUnknown = false): JsonObject {
  const tree: JsonObject = {};
  const violations: Violation[] = [];
  if (rawQuery === "") return tree;
  const pairs = rawQuery.split("&", PARAMETERS_MAX + 1);
  if (pairs.length > PARAMETERS_MAX)
    throw new CallError("INVALID_ARGUMENT", "invalid_query", `More than ${PARAMETERS_MAX} query parameters.`);
  for (const pair of pairs) {
    if (pair === "") continue;
    const at = pair.indexOf("=");
    const name = decode(at === -1 ? pair : pair.slice(0, at));
    const value = at === -1 ? "" : decode(pair.slice(at + 1));
    const fault = put(tree, schema, name, value, bound);
    if (fault !== undefined && !(ignoresUnknown && fault === unknown)) violations.push({ field: name, ...fault });
  }
  if (violations.length > 0) throw validationFailed(violations);
  return tree;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch (error) {
    throw brokenEncoding(error);
  }
}

const brokenEncoding = (cause: unknown): CallError =>
  new CallError("INVALID_ARGUMENT", "invalid_query", "The query's percent-encoding is broken.", { cause });

const unknown = { rule: "unknown_field", message: "There is no such query parameter." };

function put(
  tree: JsonObject,
  schema: DescMessage,
  name: string,
  value: string,
  bound: ReadonlySet<DescField>,
): Omit<Violation, "field"> | undefined {
  const keys = name.split(".");
  let object = tree;
  let message = schema;
  for (const [index, key] of keys.entries()) {
    const field = queryField(message, key);
    if (field === undefined || bound.has(field)) return unknown;
    const isLast = index === keys.length - 1;
    if (!isLast) {
      if (field.fieldKind !== "message" || hasTextForm(field.message)) return unknown;
      if (!Object.hasOwn(object, key)) object[key] = {};
      object = object[key] as JsonObject;
      message = field.message;
      continue;
    }
    if (!isQueryable(field)) return unknown;
    if (value === "") return undefined;
    const leaf = toTree(field, value);
    if (field.fieldKind === "list") {
      if (!Object.hasOwn(object, key)) object[key] = [];
      (object[key] as JsonTree[]).push(leaf);
    } else if (Object.hasOwn(object, key)) {
      return { rule: "duplicate_field", message: "The parameter is given twice." };
    } else object[key] = leaf;
  }
  return undefined;
}

/** A field by its proto name or its JSON name. */
const queryField = (message: DescMessage, key: string): DescField | undefined =>
  message.fields.find((field) => field.name === key || field.jsonName === key);

/** Scalars, enums, what has a text form, and lists of these. */
export function isQueryable(field: DescField): boolean {
  if (field.fieldKind === "map") return false;
  if (field.fieldKind === "list" ? field.listKind === "message" : field.fieldKind === "message")
    return field.message !== undefined && hasTextForm(field.message);
  return true;
}

/** Messages whose JSON form is one text or number. */
export const hasTextForm = (message: DescMessage): boolean =>
  /^google\.protobuf\.(?:Timestamp|Duration|FieldMask|(?:Double|Float|U?Int32|U?Int64|Bool|String|Bytes)Value)$/.test(message.typeName);

function toTree(field: DescField, value: string): JsonTree {
  const isBool = field.scalar === ScalarType.BOOL || field.message?.typeName === "google.protobuf.BoolValue";
  if (isBool && (value === "true" || value === "false")) return value === "true";
  // A mask's paths may be written as the contract has them.
  if (field.message?.typeName === "google.protobuf.FieldMask")
    return value.replaceAll(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
  return value;
}
