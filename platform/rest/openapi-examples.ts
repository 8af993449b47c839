import { type DescEnum, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { hasPresence, isRequired, itemRules, ruleKeywords, rulesOf } from "#platform/rest/field-rules.ts";
import type { Direction } from "#platform/rest/openapi-schemas.ts";

const UUID = "0190b6a0-7c1e-7000-8000-3d6f1c2b4a59";
const FORMATS: Readonly<Record<string, string>> = {
  uuid: UUID,
  email: "someone@example.com",
  hostname: "example.com",
  ipv4: "192.0.2.1",
  ipv6: "2001:db8::1",
  uri: "https://example.com/",
  "uri-reference": "/path",
};

type Keywords = ReturnType<typeof ruleKeywords>;

/**
 * Makes examples of messages out of what the contracts say of their fields: the example of buf.validate, or one that a field of
 * the same name and type has in a request (rules stand on what is sent, so that the answers have their examples from there),
 * or else a value that the rules allow. A pattern is not solved: its field needs an example in the contract.
 */
export class Examples {
  readonly #byName = new Map<string, unknown>();

  /** @param inputs the requests, whose examples serve everywhere */
  constructor(inputs: readonly DescMessage[]) {
    for (const field of inputs.flatMap((input) => input.fields)) {
      const [example] = (ruleKeywords(rulesOf(field)).examples ?? []) as unknown[];
      for (const key of example === undefined ? [] : keysOf(field)) if (!this.#byName.has(key)) this.#byName.set(key, example);
    }
  }

  /** The JSON of a message; undefined where it has a form of its own that has no good example. */
  message(
    message: DescMessage,
    direction: Direction,
    without: ReadonlySet<DescField> = new Set(),
    within: readonly DescMessage[] = [],
  ): unknown {
    const known = wellKnown(message);
    if (known !== undefined) return known;
    if (message.typeName.startsWith("google.protobuf.") || within.includes(message)) return undefined;
    const entries = message.fields
      .filter((field) => !without.has(field) && isShown(field, direction))
      .map((field) => [field.jsonName, this.field(field, direction, [...within, message])] as const)
      .filter(([, value]) => value !== undefined);
    return Object.fromEntries(entries);
  }

  field(field: DescField, direction: Direction, within: readonly DescMessage[] = []): unknown {
    if (field.fieldKind === "map") return {};
    const isList = field.fieldKind === "list";
    const value = this.#value(field, isList ? ruleKeywords(itemRules(rulesOf(field))) : ruleKeywords(rulesOf(field)), direction, within);
    if (!isList) return value;
    return value === undefined ? [] : [value];
  }

  #value(field: DescField, rules: Keywords, direction: Direction, within: readonly DescMessage[]): unknown {
    if (field.message !== undefined) return this.message(field.message, direction, undefined, within);
    const [said] = (rules.examples ?? rules.enum ?? []) as unknown[];
    const given =
      said ??
      rules.const ??
      keysOf(field)
        .map((key) => this.#byName.get(key))
        .find((value) => value !== undefined);
    if (given !== undefined) return given;
    return field.enum === undefined ? scalar(field, rules) : enumValue(field.enum);
  }
}

/** A field of the same contract comes before one of another. */
const keysOf = ({ name, scalar, parent }: DescField): string[] => [`${parent.file.name} ${name} ${scalar}`, `${name} ${scalar}`];

/** What may be left out is left out, but for the messages of an answer (times among them) and one member of each oneof. */
function isShown(field: DescField, direction: Direction): boolean {
  const { oneof } = field;
  if (oneof !== undefined) return oneof.fields[0] === field;
  if (!hasPresence(field)) return true;
  return field.fieldKind === "message" && (direction === "out" || isRequired(field) || wellKnown(field.message) === undefined);
}

function wellKnown(message: DescMessage): unknown {
  switch (message.typeName) {
    case "google.protobuf.Timestamp":
      return "2026-01-31T12:00:00Z";
    case "google.protobuf.Duration":
      return "1.500s";
    case "google.protobuf.Empty":
    case "google.protobuf.Struct":
      return {};
    default:
      return undefined;
  }
}

const enumValue = ({ values }: DescEnum): string | undefined =>
  (values.find(({ number, name }) => number !== 0 || !name.endsWith("UNSPECIFIED")) ?? values[0])?.name;

function scalar(field: DescField, rules: Keywords): unknown {
  switch (field.scalar) {
    case ScalarType.BOOL:
      return false;
    case ScalarType.BYTES:
      return "AAEC";
    case ScalarType.STRING:
      return string(field, rules);
    case ScalarType.FLOAT:
    case ScalarType.DOUBLE:
      return number(rules, 1.5);
    case ScalarType.INT32:
    case ScalarType.SINT32:
    case ScalarType.SFIXED32:
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return number(rules, 1);
    default:
      return String(number(rules, 1));
  }
}

function string({ name }: DescField, rules: Keywords): string {
  const formatted = FORMATS[String(rules.format)];
  if (formatted !== undefined) return formatted;
  if (name === "id" || name.endsWith("_id")) return UUID;
  // The last page.
  if (name.endsWith("page_token")) return "";
  const least = Number(rules.minLength ?? 0);
  return "text".padEnd(least, "-").slice(0, Number(rules.maxLength ?? Number.POSITIVE_INFINITY));
}

/** The one that is wanted, moved between the bounds. */
function number({ minimum, maximum, exclusiveMinimum, exclusiveMaximum }: Keywords, wanted: number): number {
  const least = Math.max(Number(minimum ?? Number.NEGATIVE_INFINITY), Number(exclusiveMinimum ?? Number.NEGATIVE_INFINITY) + 1);
  const most = Math.min(Number(maximum ?? Number.POSITIVE_INFINITY), Number(exclusiveMaximum ?? Number.POSITIVE_INFINITY) - 1);
  return Math.min(Math.max(wanted, least), most);
}
