import {
  create,
  type DescEnum,
  type DescField,
  type DescMessage,
  type DescOneof,
  getOption,
  type Message,
  ScalarType,
} from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence, isWrapperDesc } from "@bufbuild/protobuf/wkt";
import {
  type FieldRules,
  field as fieldOption,
  Ignore,
  oneof as oneofOption,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import fc from "fast-check";
import { isOneof } from "#platform/contract/message-fields.ts";

// Messages at the edges of their rules. `valid` are meant to keep them (a rule that isn't known here they may break);
// `edgy` are so but for some of their values, which lie on either side of what the rules allow.

type Kind = "valid" | "edgy";
type Values = fc.Arbitrary<unknown>;
/** How deep messages hold messages: a posting's owner lies three deep. */
const DEPTH_MAX = 3;

export function messagesOf(schema: DescMessage, kind: Kind, depth = 0): fc.Arbitrary<Message> {
  const members = schema.members.map((member) => [member.localName, memberValues(member, kind, depth)] as const);
  return fc.record(Object.fromEntries(members)).map((fields) => create(schema, fields as Record<string, unknown>));
}

const isTooDeep = (field: DescField, depth: number): boolean => field.message !== undefined && depth >= DEPTH_MAX;

function memberValues(member: DescField | DescOneof, kind: Kind, depth: number): Values {
  if (isOneof(member)) return oneofValues(member, kind, depth);
  const rules = getOption(member, fieldOption);
  const { type } = rules;
  if (member.fieldKind === "list") {
    if (isTooDeep(member, depth)) return fc.constant([]);
    const said = type.case === "repeated" ? type.value : undefined;
    return lists(itemValues(member, said?.items, kind, depth), Number(said?.minItems ?? 0), Number(said?.maxItems ?? 0), kind);
  }
  if (member.fieldKind === "map") return isTooDeep(member, depth) ? fc.constant({}) : maps(member, rules, kind, depth);
  const values = isTooDeep(member, depth) ? fc.constant(undefined) : itemValues(member, rules, kind, depth);
  const mayBeUnset =
    kind === "edgy" || rules.ignore === Ignore.IF_ZERO_VALUE || (!rules.required && member.presence !== FeatureSet_FieldPresence.IMPLICIT);
  return mayBeUnset ? fc.oneof({ weight: 3, arbitrary: values }, { weight: 1, arbitrary: fc.constant(undefined) }) : values;
}

function oneofValues(oneof: DescOneof, kind: Kind, depth: number): Values {
  const cases = oneof.fields
    .filter((field) => !isTooDeep(field, depth))
    .map((field) => itemValues(field, getOption(field, fieldOption), kind, depth).map((value) => ({ case: field.localName, value })));
  const mayBeUnset = kind === "edgy" || !getOption(oneof, oneofOption).required;
  return fc.oneof(...cases, ...(mayBeUnset ? [fc.constant(undefined)] : []));
}

/** A long one repeats one item: what counts is how many there are. No `max` is 0. */
function lists(items: Values, min: number, max: number, kind: Kind): Values {
  const few = fc.array(items, { minLength: min, maxLength: Math.max(min, Math.min(max === 0 ? 2 : max, 3)) });
  const lengths = [min - 1, max, max + 1, 0].filter((length) => length >= 0);
  const many = fc.tuple(items, fc.constantFrom(...lengths)).map(([item, length]) => Array.from({ length }, () => item));
  return kind === "valid" ? few : fc.oneof({ weight: 4, arbitrary: few }, { weight: 1, arbitrary: many });
}

function maps(field: DescField & { readonly fieldKind: "map" }, { type }: FieldRules, kind: Kind, depth: number): Values {
  const said = type.case === "map" ? type.value : undefined;
  const keys = {
    [ScalarType.STRING]: scalars(ScalarType.STRING, said?.keys, kind),
    [ScalarType.BOOL]: fc.constantFrom("true", "false"),
  }[field.mapKey as number];
  const entries = fc.array(fc.tuple(keys ?? fc.constantFrom("0", "1", "2"), itemValues(field, said?.values, kind, depth)), {
    maxLength: 3,
  });
  return entries.map((held) => Object.fromEntries(held as [string, unknown][]));
}

function itemValues(field: DescField, rules: FieldRules | undefined, kind: Kind, depth: number): Values {
  const { message } = field;
  if (message === undefined) return field.enum === undefined ? scalars(field.scalar, rules, kind) : numbersOf(field.enum, kind);
  if (message.typeName === "google.protobuf.Struct" && field.parent.typeName !== "google.protobuf.Value")
    return fc.constantFrom({}, { a: 1 }, { a: [null, { b: "c" }] });
  const isBare = field.fieldKind === "message" && field.oneof === undefined && isWrapperDesc(message);
  return isBare ? scalars(message.fields[0]?.scalar, rules, kind) : messagesOf(message, kind, depth + 1);
}

function numbersOf(ofEnum: DescEnum, kind: Kind): Values {
  const numbers = ofEnum.values.map(({ number }) => number);
  return fc.constantFrom(...numbers, ...(kind === "valid" ? [] : [-1, Math.max(...numbers) + 1]));
}

/** Values of a scalar; of rules that they should keep, or just do or don't. */
function scalars(scalar: ScalarType | undefined, rules: FieldRules | undefined, kind: Kind): Values {
  const { valid, edges } = candidates(scalar, rules);
  return kind === "valid" ? valid : fc.oneof({ weight: 2, arbitrary: valid }, { weight: 1, arbitrary: fc.constantFrom(...edges) });
}

function candidates(
  scalar: ScalarType | undefined,
  rules: FieldRules | undefined,
): { readonly valid: Values; readonly edges: readonly unknown[] } {
  switch (scalar) {
    case ScalarType.STRING:
      return texts(rules?.type.case === "string" ? rules.type.value : undefined);
    case ScalarType.BYTES:
      return { valid: fc.uint8Array({ maxLength: 3 }), edges: [new Uint8Array(0)] };
    case ScalarType.BOOL:
      return { valid: fc.boolean(), edges: [true, false] };
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return { valid: fc.constantFrom(0.5, 1, -1), edges: [0, -0, Number.NaN, Number.POSITIVE_INFINITY] };
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return integers(rules, -(2n ** 63n), 2n ** 63n - 1n, BigInt);
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return integers(rules, 0n, 2n ** 64n - 1n, BigInt);
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return integers(rules, 0n, 2n ** 32n - 1n, Number);
    default:
      return integers(rules, -(2n ** 31n), 2n ** 31n - 1n, Number);
  }
}

type Bounds = { readonly case?: string | undefined; readonly value?: unknown };

function integers(rules: FieldRules | undefined, least: bigint, most: bigint, as: (value: bigint) => unknown) {
  const { greaterThan, lessThan } = (rules?.type.value ?? {}) as { readonly greaterThan?: Bounds; readonly lessThan?: Bounds };
  const bound = (said: Bounds | undefined) => (said?.value === undefined ? undefined : BigInt(said.value as bigint | number));
  const [low, high] = [bound(greaterThan), bound(lessThan)];
  const min = low === undefined ? least : low + (greaterThan?.case === "gt" ? 1n : 0n);
  const max = high === undefined ? most : high - (lessThan?.case === "lt" ? 1n : 0n);
  const edges = [0n, 1n, -1n, least, most, ...[low, high].flatMap((at) => (at === undefined ? [] : [at - 1n, at, at + 1n]))];
  return {
    valid: min <= max ? fc.bigInt({ min, max }).map(as) : fc.constant(as(min)),
    edges: edges.filter((value) => value >= least && value <= most).map(as),
  };
}

const UUID = "0190b6a0-0000-7000-8000-00000000abcd";
const swapped = (at: number): string => `${UUID.slice(0, at)}${UUID[at + 1]}-${UUID.slice(at + 2)}`;
const NO_UUIDS = [
  ...[
    "",
    `${UUID}\n`,
    UUID.slice(1),
    UUID.replace("a", "g"),
    UUID.replace("a", "\u0416"),
    UUID.replaceAll("-", ""),
    UUID.replace("-", "0"),
  ],
  ...[UUID.replace("0", "-"), "-".repeat(36), ...[8, 13, 18, 23].map(swapped)],
];
const ASTRAL = "\u{1d44e}";

function texts(rules: (FieldRules["type"] & { case: "string" })["value"] | undefined) {
  if (rules?.wellKnown.case === "uuid")
    return { valid: fc.uuid().chain((uuid) => fc.constantFrom(uuid, uuid.toUpperCase())), edges: NO_UUIDS };
  const pattern = rules?.pattern ?? "";
  if (pattern !== "") {
    const matching = fc.stringMatching(new RegExp(pattern));
    const edges = ["", "\n", "RUB\n", "\nRUB", "rub", "RU", "RUBB", "a".repeat(32), "a".repeat(33), `a${ASTRAL}`, "a\ud800", "-", "\0"];
    return { valid: matching, edges };
  }
  const [min, max] = [Number(rules?.len || rules?.minLen || 0n), Number(rules?.len || rules?.maxLen || 0n)];
  const lengths = [...new Set([min, max].flatMap((length) => [length - 1, length, length + 1]))].filter((length) => length >= 0);
  return {
    valid: fc.string({ unit: "binary", minLength: min, maxLength: max === 0 ? min + 5 : Math.max(min, Math.min(max, min + 20)) }),
    edges: [
      ...["", "a", "\0", "\ud800", "\n"],
      ...lengths.flatMap((length) => ["a", ASTRAL, "\ud800", `${ASTRAL}a`].map((unit) => unit.repeat(length))),
    ],
  };
}
