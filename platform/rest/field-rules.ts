import { type DescField, getOption, hasOption } from "@bufbuild/protobuf";
import { type FieldRules, field as fieldOption, Ignore } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

type Json = Record<string, unknown>;
/** What rules of different types have in common, by name. */
type RuleFields = {
  readonly [K in
    | "minItems"
    | "maxItems"
    | "unique"
    | "minPairs"
    | "maxPairs"
    | "minLen"
    | "maxLen"
    | "len"
    | "pattern"
    | "const"
    | "in"
    | "example"]?: unknown;
} & {
  readonly [K in "wellKnown" | "greaterThan" | "lessThan"]?: { readonly case?: string; readonly value?: unknown };
};

export const rulesOf = (field: DescField): FieldRules | undefined =>
  hasOption(field, fieldOption) ? getOption(field, fieldOption) : undefined;

const FORMATS: Readonly<Record<string, string>> = {
  uuid: "uuid",
  email: "email",
  hostname: "hostname",
  ipv4: "ipv4",
  ipv6: "ipv6",
  uri: "uri",
  uriRef: "uri-reference",
};

/**
 * The rules of buf.validate for one value, as keywords of JSON Schema. What JSON Schema can't say (CEL) stays with the service.
 * Where a value may also be left out as its zero (`IGNORE_IF_ZERO_VALUE`), the keywords still tell what is meant to be sent.
 */
export function ruleKeywords(rules: FieldRules | undefined): Json {
  const { type } = rules ?? {};
  if (type?.case === undefined) return {};
  // proto2 messages: what isn't set shows on the prototype.
  const set = Object.fromEntries(Object.entries(type.value)) as RuleFields;
  switch (type.case) {
    case "string":
      return stringKeywords(set);
    case "repeated":
      return compact({ minItems: number(set.minItems), maxItems: number(set.maxItems), uniqueItems: set.unique });
    case "map":
      return compact({ minProperties: number(set.minPairs), maxProperties: number(set.maxPairs) });
    case "bytes":
    case "enum":
    case "bool":
    case "any":
    case "duration":
    case "fieldMask":
    case "timestamp":
      return {};
    default:
      return numberKeywords(set);
  }
}

/** The rules of a list's items. */
export const itemRules = (rules: FieldRules | undefined): FieldRules | undefined =>
  rules?.type.case === "repeated" ? rules.type.value.items : rules?.type.case === "map" ? rules.type.value.values : undefined;

function stringKeywords(set: RuleFields): Json {
  return compact({
    minLength: number(set.minLen ?? set.len),
    maxLength: number(set.maxLen ?? set.len),
    pattern: set.pattern,
    const: set.const,
    enum: list(set.in),
    format: FORMATS[set.wellKnown?.case ?? ""],
    examples: list(set.example),
  });
}

function numberKeywords(set: RuleFields): Json {
  const { greaterThan: above, lessThan: below } = set;
  return compact({
    exclusiveMinimum: above?.case === "gt" ? number(above.value) : undefined,
    minimum: above?.case === "gte" ? number(above.value) : undefined,
    exclusiveMaximum: below?.case === "lt" ? number(below.value) : undefined,
    maximum: below?.case === "lte" ? number(below.value) : undefined,
    examples: list(set.example)?.map((value) => (typeof value === "bigint" ? String(value) : value)),
  });
}

/** Whether a request without the field is refused: it is required, or its rules refuse the zero value that it would have. */
export function isRequired(field: DescField): boolean {
  const rules = rulesOf(field);
  if (rules === undefined) return false;
  if (rules.required) return true;
  if (rules.ignore !== Ignore.UNSPECIFIED || field.oneof !== undefined || hasPresence(field)) return false;
  const { minLength, pattern, format, minItems, exclusiveMinimum, minimum, enum: oneOf } = ruleKeywords(rules);
  return (
    Number(minLength ?? 0) > 0 ||
    Number(minItems ?? 0) > 0 ||
    Number(minimum ?? 0) > 0 ||
    Number(exclusiveMinimum ?? -1) >= 0 ||
    (format !== undefined && field.fieldKind === "scalar") ||
    oneOf !== undefined ||
    (typeof pattern === "string" && !new RegExp(pattern, "u").test(""))
  );
}

/** Told apart from its zero value: optional, in a oneof, or a message. Not written where it isn't set. */
export const hasPresence = (field: DescField): boolean =>
  field.fieldKind === "message" ||
  field.oneof !== undefined ||
  (field.fieldKind !== "list" && field.fieldKind !== "map" && field.proto.proto3Optional);

/** Bounds past 2^53 are left out: JSON can't say them exactly. */
function number(value: unknown): number | undefined {
  if (value === undefined) return undefined;
  const plain = Number(value);
  return typeof value === "bigint" && !Number.isSafeInteger(plain) ? undefined : plain;
}

const list = (value: unknown): unknown[] | undefined => (Array.isArray(value) && value.length > 0 ? value : undefined);

const compact = (object: Json): Json =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined && value !== false));
