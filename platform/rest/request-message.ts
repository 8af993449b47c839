import { create, type DescField, type DescMessage, type Message, type Registry, ScalarType } from "@bufbuild/protobuf";
import { EmptySchema, FieldMaskSchema } from "@bufbuild/protobuf/wkt";
import type { Violation } from "#platform/rejection.ts";
import { messageFromJson } from "#platform/rest/json.ts";
import { type JsonObject, type JsonTree, NumberText } from "#platform/rest/json-text.ts";
import { hasTextForm, readQuery } from "#platform/rest/query.ts";
import type { Binding } from "#platform/rest/routes.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { validationFailed } from "#platform/rpc/validation.ts";

/** The parts of an HTTP request that a message is made of. */
export type RequestParts = {
  /** The path variables' values, in the template's order. */
  readonly pathValues: readonly string[];
  /** Without its `?`. */
  readonly rawQuery: string;
  /** Undefined: there was none. */
  readonly body: JsonTree | RawBody | undefined;
};

/** The body of a method that takes google.api.HttpBody. */
export class RawBody {
  readonly contentType: string;
  readonly data: Uint8Array;
  constructor(contentType: string, data: Uint8Array) {
    this.contentType = contentType;
    this.data = data;
  }
}

/**
 * Makes the request's message of path, query and body as google.api.http says. All three become one JSON tree, which is
 * checked and read once. Throws CallError `validation_failed` with every field at fault, as the client wrote it.
 */
export function requestMessage(binding: Binding, parts: RequestParts, registry: Registry): Message {
  const { method, body } = binding;
  const raw = parts.body instanceof RawBody ? parts.body : undefined;
  const given = parts.body instanceof RawBody ? undefined : parts.body;
  if (body.kind === "none" && given !== undefined) messageFromJson(EmptySchema, given, registry);
  const tree = startTree(binding, parts.rawQuery, given);
  const mask = deriveMask(binding, tree, given);
  if (isPlainObject(tree)) bindPath(tree, binding, parts.pathValues);
  try {
    const message = messageFromJson(method.input, tree, registry);
    if (mask !== undefined) setField(message, mask.field, create(FieldMaskSchema, { paths: mask.paths }));
    if (raw === undefined) return message;
    if (body.kind === "field") setField(message, body.field, rawMessage(body.field.message as DescMessage, raw));
    return body.kind === "whole" ? Object.assign(message, { contentType: raw.contentType, data: raw.data }) : message;
  } catch (error) {
    throw asClientWrote(error, binding);
  }
}

/** With a field as the body, the client's paths begin within that field, and so do those that a service names. */
export function asClientWrote(error: unknown, { body }: Binding): unknown {
  if (body.kind !== "field" || !(error instanceof CallError) || error.violations.length === 0) return error;
  const { field } = body;
  const violations = error.violations.map((violation): Violation => {
    const prefix = [field.jsonName, field.name].find((name) => violation.field.startsWith(`${name}.`));
    return prefix === undefined ? violation : { ...violation, field: violation.field.slice(prefix.length + 1) };
  });
  const { retryAfterMs, cause } = error;
  return new CallError(error.status, error.code, error.message, {
    violations,
    cause,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

const rawMessage = (schema: DescMessage, { contentType, data }: RawBody): Message => Object.assign(create(schema), { contentType, data });

function setField(message: Message, field: DescField, value: unknown): void {
  (message as unknown as Record<string, unknown>)[field.localName] = value;
}

function startTree({ method, options, body, pathFields }: Binding, rawQuery: string, given: JsonTree | undefined): JsonTree {
  if (body.kind === "whole") {
    // The body holds all that the path doesn't: no parameter of a query is known.
    if (rawQuery !== "") readQuery(EmptySchema, rawQuery, new Set());
    return given ?? {};
  }
  const bound = new Set(pathFields.map((chain) => chain.at(-1) as DescField));
  if (body.kind === "field") bound.add(body.field);
  const tree = readQuery(method.input, rawQuery, bound, options.ignoresUnknownParameters);
  if (body.kind === "field" && given !== undefined) tree[body.field.jsonName] = given;
  return tree;
}

const isPlainObject = (value: JsonTree | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof NumberText);

/** The key under which a field stands in the tree, or is to stand. */
const keyOf = (object: JsonObject, field: DescField): string => (Object.hasOwn(object, field.name) ? field.name : field.jsonName);

function bindPath(tree: JsonObject, { pathFields, body }: Binding, values: readonly string[]): void {
  const violations: Violation[] = [];
  for (const [index, chain] of pathFields.entries()) {
    const value = values[index] ?? "";
    let object: JsonTree = tree;
    for (const field of chain.slice(0, -1)) {
      const key = keyOf(object, field);
      object[key] ??= {};
      const inner: JsonTree | undefined = object[key];
      // What is no object here is told by the check of the whole.
      if (!isPlainObject(inner)) return;
      object = inner;
    }
    const field = chain.at(-1) as DescField;
    const key = keyOf(object, field);
    const said = Object.hasOwn(object, key) ? object[key] : undefined;
    if (said !== undefined && said !== null && (said instanceof NumberText ? said.text : String(said)) !== value) {
      const within = body.kind === "field" && chain[0] === body.field ? chain.slice(1) : chain;
      violations.push({
        field: within.map((part) => part.jsonName).join("."),
        rule: "path_mismatch",
        message: "Differs from what the path says.",
      });
    }
    object[key] =
      field.fieldKind === "scalar" && (value === "true" || value === "false") && field.scalar === ScalarType.BOOL
        ? value === "true"
        : value;
  }
  if (violations.length > 0) throw validationFailed(violations);
}

/** PATCH without an `update_mask` changes what its body names; null and empty values included. */
function deriveMask(
  { httpMethod, method, body }: Binding,
  tree: JsonTree,
  given: JsonTree | undefined,
): { field: DescField; paths: string[] } | undefined {
  if (httpMethod !== "PATCH" || body.kind !== "field" || body.field.fieldKind !== "message") return undefined;
  const field = method.input.fields.find(({ name, message }) => name === "update_mask" && message?.typeName === FieldMaskSchema.typeName);
  if (field === undefined || !isPlainObject(tree) || !isPlainObject(given) || Object.hasOwn(tree, keyOf(tree, field))) return undefined;
  return { field, paths: maskPaths(body.field.message, given, "") };
}

function maskPaths(schema: DescMessage, object: JsonObject, prefix: string): string[] {
  return Object.keys(object).flatMap((key) => {
    const field = schema.fields.find(({ name, jsonName }) => name === key || jsonName === key);
    if (field === undefined) return [];
    const path = prefix + field.name;
    const inner = object[key];
    const goesOn =
      field.fieldKind === "message" &&
      !hasTextForm(field.message) &&
      !field.message.typeName.startsWith("google.protobuf.") &&
      isPlainObject(inner);
    return goesOn && Object.keys(inner).length > 0 ? maskPaths(field.message, inner, `${path}.`) : [path];
  });
}
