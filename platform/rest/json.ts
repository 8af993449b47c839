import { isUtf8 } from "node:buffer";
import {
  createRegistry,
  type DescField,
  type DescMessage,
  type DescService,
  fromJson,
  type JsonValue,
  type Message,
  type Registry,
  toJson,
} from "@bufbuild/protobuf";
import { isFieldError } from "@bufbuild/protobuf/reflect";
import { Faults, type Place, pathText } from "#platform/rest/json-faults.ts";
import { messageCheck } from "#platform/rest/json-shape.ts";
import { DuplicateKeyError, type JsonObject, JsonSyntaxError, type JsonTree, parseJsonText } from "#platform/rest/json-text.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { validationFailed } from "#platform/rpc/validation.ts";

/** The messages that google.protobuf.Any may hold at this edge: those of the services' files. */
export const registryOf = (services: readonly DescService[]): Registry => createRegistry(...services.map((service) => service.file));

/** A body's bytes as a JSON tree. Throws CallError `invalid_json` with the position, or `validation_failed` for a key given twice. */
export function readJson(bytes: Uint8Array): JsonTree {
  if (!isUtf8(bytes)) throw new CallError("INVALID_ARGUMENT", "invalid_json", "The body is not UTF-8.");
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
  try {
    return parseJsonText(text);
  } catch (error) {
    if (error instanceof DuplicateKeyError) throw duplicateKey(error);
    if (error instanceof JsonSyntaxError) throw syntaxError(error, text);
    throw error;
  }
}

function duplicateKey(error: DuplicateKeyError): CallError {
  const place = error.path.reduce<Place | undefined>((up, key) => ({ up, key }), undefined);
  return validationFailed([{ field: pathText(place), rule: "duplicate_field", message: "The field is given twice." }]);
}

function syntaxError(error: JsonSyntaxError, text: string): CallError {
  const before = text.slice(0, error.offset).split("\n");
  const position = `line ${before.length}, column ${(before.at(-1)?.length ?? 0) + 1}`;
  return new CallError("INVALID_ARGUMENT", "invalid_json", `The body is not JSON: ${error.message} at ${position}.`);
}

/**
 * A JSON tree as a message (Protobuf's JSON mapping, strict): an unknown field, a wrong type, a number that an integer can't be.
 * The tree is used up. Throws CallError `validation_failed` with all faults, each with its path.
 */
export function messageFromJson(schema: DescMessage, tree: JsonTree, registry: Registry): Message {
  const faults = new Faults(registry);
  const checked = messageCheck(schema)(tree, undefined, faults);
  if (faults.list.length > 0) throw validationFailed(faults.list);
  try {
    return fromJson(schema, checked as JsonValue, { registry });
  } catch (error) {
    // What protobuf-es refuses although the check let it pass: still the client's fault, told with less care.
    const cause = (error as Error).cause;
    const field = isFieldError(cause) ? cause.field().name : "";
    throw validationFailed([{ field, rule: "invalid_value", message: "Can't be read as the contract's type." }]);
  }
}

/** A message as JSON text: lowerCamelCase, zero values written, 64-bit integers as strings. */
export function messageToJson(schema: DescMessage, message: Message, registry: Registry): string {
  return JSON.stringify(toJson(schema, message, { alwaysEmitImplicit: true, registry }));
}

/** One field of a message as JSON text (`response_body`); a message that isn't set is null. */
export function fieldToJson(field: DescField, message: Message, registry: Registry): string {
  const whole = toJson(field.parent, message, { alwaysEmitImplicit: true, registry }) as JsonObject;
  return JSON.stringify(whole[field.jsonName] ?? null);
}
