import { type DescField, type DescMessage, getOption, hasOption, type JsonValue, type Message, toJson } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { field as fieldOption } from "#contracts/polis/options/v1/options_pb.ts";
import { MASK } from "#platform/telemetry/mask.ts";

/** A message as JSON, with the fields that its contract calls personal masked: what may be shown. */
export function maskedJson(schema: DescMessage, message: Message): JsonValue {
  return mask(schema, reflect(schema, message), toJson(schema, message, { alwaysEmitImplicit: true }));
}

function mask(schema: DescMessage, message: ReflectMessage, json: JsonValue): JsonValue {
  if (typeof json !== "object" || json === null || Array.isArray(json)) return json;
  const shown = { ...json };
  for (const field of schema.fields) {
    const value = shown[field.jsonName];
    if (value === undefined) continue;
    if (isPersonal(field)) shown[field.jsonName] = MASK;
    else shown[field.jsonName] = maskField(field, message, value);
  }
  return shown;
}

function maskField(field: DescField, message: ReflectMessage, json: JsonValue): JsonValue {
  if (field.fieldKind === "message" && message.isSet(field)) return mask(field.message, message.get(field), json);
  if (field.fieldKind === "list" && field.listKind === "message" && Array.isArray(json)) {
    const items = [...message.get(field)] as ReflectMessage[];
    return json.map((item, i) => mask(field.message, items[i] as ReflectMessage, item));
  }
  if (field.fieldKind === "map" && field.mapKind === "message" && typeof json === "object" && json !== null && !Array.isArray(json)) {
    const values = new Map([...message.get(field)].map(([key, value]) => [String(key), value as ReflectMessage]));
    return Object.fromEntries(
      Object.entries(json).map(([key, value]) => [key, mask(field.message, values.get(key) as ReflectMessage, value)]),
    );
  }
  return json;
}

const isPersonal = (field: DescField): boolean => hasOption(field, fieldOption) && getOption(field, fieldOption).personal;
