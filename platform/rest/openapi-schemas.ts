import { type DescEnum, type DescField, type DescMessage, getOption, hasOption, ScalarType } from "@bufbuild/protobuf";
import { field as fieldOption } from "#contracts/polis/options/v1/options_pb.ts";
import { hasPresence, isRequired, itemRules, ruleKeywords, rulesOf } from "#platform/rest/field-rules.ts";
import type { Comments } from "#platform/rest/proto-comments.ts";

export type Json = Record<string, unknown>;
/** What is sent may be written in more ways than what is answered, and needn't hold everything. */
export type Direction = "in" | "out";

/** Collects the schemas of messages under components/schemas as they are asked for. */
export class Schemas {
  readonly components: Record<string, Json> = {};
  readonly #comments: Comments;
  readonly #answered: ReadonlySet<DescMessage>;

  /** @param outputs messages that are answers: a message that is both sent and answered has two schemas. */
  constructor(comments: Comments, outputs: readonly DescMessage[]) {
    this.#comments = comments;
    const answered = new Set<DescMessage>();
    for (const output of outputs) reach(output, answered);
    this.#answered = answered;
  }

  /** A reference to the message's schema, or the schema itself where the message has a JSON form of its own. */
  message(message: DescMessage, direction: Direction): Json {
    const wellKnown = wellKnownSchema(message, direction);
    if (wellKnown !== undefined) return wellKnown;
    const name = `${shortName(message.typeName)}${direction === "in" && this.#answered.has(message) ? "Input" : ""}`;
    if (this.components[name] === undefined) {
      // Put in first: a message may hold itself.
      this.components[name] = {};
      Object.assign(this.components[name], this.object(message, direction, new Set()));
    }
    return { $ref: `#/components/schemas/${name}` };
  }

  /** The schema of a message without some of its fields. */
  object(message: DescMessage, direction: Direction, without: ReadonlySet<DescField>): Json {
    const fields = message.fields.filter((field) => !without.has(field));
    const required = fields
      .filter((field) => (direction === "in" ? isRequired(field) : !hasPresence(field)))
      .map((field) => field.jsonName);
    return {
      type: "object",
      ...this.#described(message.typeName),
      properties: Object.fromEntries(fields.map((field) => [field.jsonName, this.field(field, direction)])),
      ...(required.length > 0 ? { required } : {}),
      ...(direction === "in" ? { additionalProperties: false } : {}),
    };
  }

  field(field: DescField, direction: Direction): Json {
    const described = this.#fieldText(field);
    const rules = direction === "in" ? ruleKeywords(rulesOf(field)) : examplesOf(field);
    const schema = this.#fieldType(field, direction);
    // Beside $ref, keywords are allowed from OpenAPI 3.1 on.
    return { ...schema, ...rules, ...described };
  }

  #fieldType(field: DescField, direction: Direction): Json {
    switch (field.fieldKind) {
      case "scalar":
        return scalarSchema(field.scalar, direction);
      case "enum":
        return this.#enum(field.enum);
      case "message":
        return this.message(field.message, direction);
      case "list":
        return {
          type: "array",
          items: { ...this.#element(field, direction), ...(direction === "in" ? ruleKeywords(itemRules(rulesOf(field))) : {}) },
        };
      case "map":
        return { type: "object", additionalProperties: this.#element(field, direction) };
    }
  }

  #element(field: DescField & { fieldKind: "list" | "map" }, direction: Direction): Json {
    if (field.scalar !== undefined) return scalarSchema(field.scalar, direction);
    if (field.enum !== undefined) return this.#enum(field.enum);
    return this.message(field.message as DescMessage, direction);
  }

  #enum(type: DescEnum): Json {
    const texts = type.values.flatMap((value) => {
      const text = this.#comments.get(`${type.typeName}.${value.name}`);
      return text === undefined ? [] : [`- \`${value.name}\`: ${text}`];
    });
    return { type: "string", enum: type.values.map((value) => value.name), ...(texts.length > 0 ? { description: texts.join("\n") } : {}) };
  }

  #fieldText(field: DescField): Json {
    const isPersonal = hasOption(field, fieldOption) && getOption(field, fieldOption).personal;
    const own = field.fieldKind === "enum" ? this.#enum(field.enum).description : undefined;
    const texts = [this.#comments.get(`${field.parent.typeName}.${field.name}`), own, isPersonal ? "Personal data." : undefined].filter(
      (text) => text !== undefined,
    );
    return { ...(texts.length > 0 ? { description: texts.join("\n\n") } : {}), ...(isPersonal ? { "x-personal": true } : {}) };
  }

  #described(name: string): Json {
    const text = this.#comments.get(name);
    return text === undefined ? {} : { description: text };
  }
}

/** `polis.orders.v1.Order` → `orders.Order`: stable whatever other contracts are served; later versions keep theirs. */
export const shortName = (typeName: string): string => typeName.replace(/^polis\./, "").replace(/\.v1\./, ".");

function reach(message: DescMessage, into: Set<DescMessage>): void {
  if (into.has(message)) return;
  into.add(message);
  for (const field of message.fields) if (field.message !== undefined) reach(field.message, into);
}

const examplesOf = (field: DescField): Json => {
  const { examples } = ruleKeywords(rulesOf(field));
  return examples === undefined ? {} : { examples };
};

function scalarSchema(type: ScalarType, direction: Direction): Json {
  switch (type) {
    case ScalarType.BOOL:
      return { type: "boolean" };
    case ScalarType.STRING:
      return { type: "string" };
    case ScalarType.BYTES:
      return { type: "string", contentEncoding: "base64" };
    case ScalarType.FLOAT:
    case ScalarType.DOUBLE:
      return { type: ["number", "string"], format: type === ScalarType.FLOAT ? "float" : "double" };
    case ScalarType.INT32:
    case ScalarType.SINT32:
    case ScalarType.SFIXED32:
      return { type: "integer", format: "int32" };
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return { type: "integer", format: "int64", minimum: 0, maximum: 2 ** 32 - 1 };
    default: {
      const isUnsigned = type === ScalarType.UINT64 || type === ScalarType.FIXED64;
      const pattern = isUnsigned ? "^[0-9]+$" : "^-?[0-9]+$";
      return { type: direction === "in" ? ["string", "integer"] : "string", format: isUnsigned ? "uint64" : "int64", pattern };
    }
  }
}

function wellKnownSchema(message: DescMessage, direction: Direction): Json | undefined {
  switch (message.typeName) {
    case "google.protobuf.Timestamp":
      return { type: "string", format: "date-time" };
    case "google.protobuf.Duration":
      return { type: "string", pattern: "^-?[0-9]+(\\.[0-9]{1,9})?s$", examples: ["1.5s"] };
    case "google.protobuf.FieldMask":
      return { type: "string", examples: ["amount,dimensions.width"] };
    case "google.protobuf.Struct":
      return { type: "object", additionalProperties: true };
    case "google.protobuf.ListValue":
      return { type: "array", items: {} };
    case "google.protobuf.Value":
      return {};
    case "google.protobuf.Empty":
      return { type: "object", additionalProperties: false };
    case "google.protobuf.Any":
      return { type: "object", properties: { "@type": { type: "string" } }, required: ["@type"], additionalProperties: true };
  }
  const value = message.typeName.startsWith("google.protobuf.") ? message.fields[0] : undefined;
  return value?.name === "value" && value.fieldKind === "scalar" ? scalarSchema(value.scalar, direction) : undefined;
}
