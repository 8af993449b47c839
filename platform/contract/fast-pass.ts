import { create, type DescField, type DescMessage, type DescOneof, getOption, ScalarType } from "@bufbuild/protobuf";
import { scalarZeroValue } from "@bufbuild/protobuf/reflect";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import {
  type FieldRules,
  field as fieldOption,
  Ignore,
  MapRulesSchema,
  message as messageOption,
  oneof as oneofOption,
  RepeatedRulesSchema,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { contentOf, isOneof } from "#platform/contract/message-fields.ts";
import { always, type Check, never, said, saysOnly, valueCheck } from "#platform/contract/value-rules.ts";

// protovalidate goes by reflection: 4.3 µs for a posting of one leg, 1.6 µs for an OrderCreated, and each order meets it six
// times. Nearly every message is valid. So what surely is gets told by predicates that are compiled once for each type (0.4
// and 0.3 µs), and protovalidate judges the rest: what breaks a rule, what is under rules that aren't understood here, and
// whatever isn't as protobuf-es makes it, such as an int64 that is no bigint.

type Fields = Readonly<Record<string, unknown>>;
type Member = {
  readonly name: string;
  /** Says nothing where it is undefined; without it, undefined isn't surely valid. */
  readonly optional: boolean;
  readonly required: boolean;
  /** Of a value that isn't undefined. */
  readonly check: Check;
};

const checks = new WeakMap<DescMessage, Check>();

/** Whether a message surely keeps the rules of its type. It throws, or says false, for what is no message. */
export function messageCheck(schema: DescMessage): Check {
  const known = checks.get(schema);
  if (known !== undefined) return known;
  // Presence works by prototype outside of proto3; no contract of ours is written so.
  if (schema.file.proto.syntax !== "proto3" || !saysOnly(getOption(schema, messageOption), [])) {
    checks.set(schema, never);
    return never;
  }
  const { typeName } = schema;
  // Nothing passes before all of them are compiled.
  let members: readonly Member[] = [{ name: "$typeName", optional: false, required: false, check: never }];
  const whole: Check = (message) => {
    const fields = message as Fields;
    if (fields.$typeName !== typeName) return false;
    for (const { name, optional, required, check } of members) {
      const value = fields[name];
      if (value === undefined ? !optional : !check(value)) return false;
      // What a prototype holds isn't set.
      if (required && !Object.hasOwn(fields, name)) return false;
    }
    return true;
  };
  // Known before its members are, so that a type that holds itself finds itself.
  checks.set(schema, whole);
  members = schema.members
    .map((member): Member => (isOneof(member) ? oneofMember(member) : fieldMember(member)))
    .filter(({ required, check }) => required || check !== always);
  const check = members.length === 0 ? always : whole;
  checks.set(schema, check);
  return check;
}

function oneofMember(oneof: DescOneof): Member {
  const rules = getOption(oneof, oneofOption);
  const cases = new Map(oneof.fields.map((field) => [field.localName, fieldCheck(field, getOption(field, fieldOption))]));
  const check: Check = (value) => {
    const { case: chosen, value: held } = value as { readonly case: string | undefined; readonly value: unknown };
    return chosen === undefined ? !rules.required : (cases.get(chosen) ?? never)(held);
  };
  // Required, a field of a oneof speaks of the others too.
  const isKnown = saysOnly(rules, ["required"]) && !oneof.fields.some((field) => getOption(field, fieldOption).required);
  const isFree = !rules.required && [...cases.values()].every((held) => held === always);
  return { name: oneof.localName, optional: false, required: false, check: !isKnown ? never : isFree ? always : check };
}

function fieldMember(field: DescField): Member {
  const rules = getOption(field, fieldOption);
  const required = rules.required && rules.ignore !== Ignore.ALWAYS;
  const check = fieldCheck(field, rules);
  // Where presence is told apart, rules are of what is present.
  const isExplicit = field.presence !== FeatureSet_FieldPresence.IMPLICIT;
  return {
    name: field.localName,
    optional: isExplicit && !required,
    required,
    check: isExplicit ? check : zeroCheck(field, required, rules.ignore === Ignore.IF_ZERO_VALUE, check),
  };
}

/** Where presence isn't told apart, a zero is none: that may be forbidden, or may need to keep no rules. */
function zeroCheck(field: DescField, forbidden: boolean, free: boolean, check: Check): Check {
  const [isZero, isNone] = zeroOf(field);
  if (forbidden) return (value) => isNone(value) && check(value);
  return free && check !== always ? (value) => isZero(value) || check(value) : check;
}

/** Whether a value is surely its field's zero; and whether it surely is none. */
function zeroOf(field: DescField): readonly [isZero: Check, isNone: Check] {
  if (field.fieldKind === "list") return [(list) => (list as unknown[]).length === 0, (list) => (list as unknown[]).length > 0];
  if (field.fieldKind === "map") return [(map) => sizeOf(map) === 0, (map) => sizeOf(map) > 0];
  if (field.scalar === ScalarType.BYTES) return [never, never];
  const zero = field.enum?.values[0]?.number ?? scalarZeroValue(field.scalar ?? ScalarType.INT32, false);
  // A 0 in the place of 0n, or a -0, is neither for sure.
  return [(value) => Object.is(value, zero), (value) => typeof value === typeof zero && value !== zero];
}

const sizeOf = (map: unknown): number => Object.keys(map as object).length;

function fieldCheck(field: DescField, rules: FieldRules): Check {
  if (rules.ignore === Ignore.ALWAYS) return always;
  if (!saysOnly(rules, ["required", "ignore", "type"])) return never;
  if (field.fieldKind === "list") return listCheck(field, rules);
  if (field.fieldKind === "map") return mapCheck(field, rules);
  return contentCheck(field, rules);
}

function listCheck(field: DescField, { type }: FieldRules): Check {
  if (type.case !== undefined && type.case !== "repeated") return never;
  const rules = type.value ?? create(RepeatedRulesSchema);
  if (!saysOnly(rules, ["minItems", "maxItems", "items"])) return never;
  const [least, most] = [Number(said(rules, "minItems") ?? 0), Number(said(rules, "maxItems") ?? Infinity)];
  const item = itemCheck(field, rules.items);
  if (type.case === undefined && item === always) return always;
  return (list) => {
    if (!Array.isArray(list) || list.length < least || list.length > most) return false;
    for (const held of list) if (!item(held)) return false;
    return true;
  };
}

function mapCheck(field: DescField & { fieldKind: "map" }, { type }: FieldRules): Check {
  if (type.case !== undefined && type.case !== "map") return never;
  const rules = type.value ?? create(MapRulesSchema);
  if (!saysOnly(rules, ["minPairs", "maxPairs", "keys", "values"])) return never;
  const [least, most] = [Number(said(rules, "minPairs") ?? 0), Number(said(rules, "maxPairs") ?? Infinity)];
  const item = itemCheck(field, rules.values);
  const key = keyCheck(field.mapKey, rules.keys);
  if (type.case === undefined && item === always) return always;
  return (map) => {
    const keys = Object.keys(map as Fields);
    return keys.length >= least && keys.length <= most && keys.every((name) => key(name) && item((map as Fields)[name]));
  };
}

/** Keys that are no texts are texts in JavaScript; rules for them are rare. */
function keyCheck(scalar: ScalarType, rules: FieldRules | undefined): Check {
  if (rules === undefined) return always;
  return scalar === ScalarType.STRING && saysOnly(rules, ["type"]) ? valueCheck(scalar, undefined, rules) : never;
}

/** Of what a list or a map holds. */
function itemCheck(field: DescField, rules: FieldRules | undefined): Check {
  return rules === undefined || saysOnly(rules, ["type"]) ? contentCheck(field, rules) : never;
}

/** Of what a field, a list or a map holds. */
function contentCheck(field: DescField, rules: FieldRules | undefined): Check {
  const content = contentOf(field);
  if (content.kind === "scalar") return valueCheck(content.scalar, field.enum, rules);
  // JSON (google.protobuf.Struct) is made into messages before it is judged.
  return content.kind === "message" && rules?.type.case === undefined ? messageCheck(content.message) : never;
}
