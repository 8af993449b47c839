import type { DescField, DescMessage, DescOneof } from "@bufbuild/protobuf";
import { getOption, hasOption } from "@bufbuild/protobuf";
import { type FieldRules, field as fieldOption } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { contentOf, isOneof } from "#platform/contract/message-fields.ts";

// A uuid is one value in two spellings. The database compares them as one, texts don't: idempotency hashes, derived ids and
// owners would tell them apart. So what a contract calls a uuid is in lower case from a service's edge on.

/** Changes a value in its place, or gives the one to put there. */
type Lower = (value: unknown) => unknown;

const compiled = new WeakMap<DescMessage, Lower | "none">();

/** Writes every field that the contract says is a uuid in lower case, in place. Compiled once for each type. */
export function lowerUuids(schema: DescMessage, message: object): void {
  const lower = lowerOf(schema);
  if (lower !== "none") lower(message);
}

function lowerOf(schema: DescMessage): Lower | "none" {
  let lower = compiled.get(schema);
  if (lower === undefined) {
    const members: [string, Lower][] = [];
    // Known before its members are, so that a type that holds itself finds itself.
    const whole: Lower = (message) => {
      const holder = message as Record<string, unknown>;
      for (const [name, change] of members) {
        const value = holder[name];
        if (value !== undefined) holder[name] = change(value);
      }
      return message;
    };
    compiled.set(schema, whole);
    for (const member of schema.members) {
      const change = memberLower(member);
      if (change !== undefined) members.push([member.localName, change]);
    }
    lower = members.length === 0 ? "none" : whole;
    compiled.set(schema, lower);
  }
  return lower;
}

function memberLower(member: DescField | DescOneof): Lower | undefined {
  if (isOneof(member)) {
    const cases = new Map(
      member.fields.flatMap((field) => ((change) => (change === undefined ? [] : [[field.localName, change]]))(fieldLower(field))),
    );
    if (cases.size === 0) return undefined;
    return (value) => {
      const oneof = value as { case: string | undefined; value: unknown };
      const change = oneof.case === undefined ? undefined : cases.get(oneof.case);
      if (change !== undefined) oneof.value = change(oneof.value);
      return oneof;
    };
  }
  return fieldLower(member);
}

function fieldLower(field: DescField): Lower | undefined {
  const type = hasOption(field, fieldOption) ? getOption(field, fieldOption).type : undefined;
  if (field.fieldKind === "list") {
    const item = itemLower(field, type?.case === "repeated" ? type.value.items : undefined);
    return item && ((list) => (list as unknown[]).map(item));
  }
  if (field.fieldKind === "map") {
    const item = itemLower(field, type?.case === "map" ? type.value.values : undefined);
    return item && ((map) => Object.fromEntries(Object.entries(map as object).map(([key, value]) => [key, item(value)])));
  }
  return itemLower(field, hasOption(field, fieldOption) ? getOption(field, fieldOption) : undefined);
}

function itemLower(field: DescField, rules: FieldRules | undefined): Lower | undefined {
  const content = contentOf(field);
  if (content.kind === "message") {
    const lower = lowerOf(content.message);
    return lower === "none" ? undefined : lower;
  }
  const isUuid = rules?.type.case === "string" && rules.type.value.wellKnown.case === "uuid" && rules.type.value.wellKnown.value;
  return isUuid ? (value) => (value as string).toLowerCase() : undefined;
}
