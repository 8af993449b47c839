import type { DescMessage, Message } from "@bufbuild/protobuf";
import type { Path } from "@bufbuild/protobuf/reflect";
import { breach } from "#platform/contract/rules.ts";
import type { Violation } from "#platform/rejection.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { textsAreSound, textViolations } from "#platform/rpc/texts.ts";

/** Throws INVALID_ARGUMENT `validation_failed` with every violation of the contract's rules. */
export function validate(schema: DescMessage, message: Message): void {
  const unsound = textsAreSound(schema, message) ? [] : textViolations(schema, message);
  const broken = breach(schema, message);
  if (broken === undefined && unsound.length === 0) return;
  if (broken?.kind === "error" && unsound.length === 0) throw broken.error;
  const violations = broken?.violations ?? [];
  throw validationFailed([
    ...unsound,
    ...violations.map(({ field, ruleId, message: text }): Violation => ({ field: jsonPath(field), rule: ruleId, message: text })),
  ]);
}

/** The first faults will do; an answer of errors stays small enough for gRPC's headers. */
export const VIOLATIONS_MAX = 32;
const PATH_LENGTH_MAX = 200;

export const validationFailed = (violations: readonly Violation[]): CallError =>
  new CallError("INVALID_ARGUMENT", "validation_failed", "The request breaks the rules of its contract.", {
    violations: violations
      .slice(0, VIOLATIONS_MAX)
      .map(({ field, rule, message }) => ({ field: field.slice(0, PATH_LENGTH_MAX).toWellFormed(), rule, message })),
  });

/** A key as every header can carry it: 1 to 255 visible characters of ASCII. */
export const IDEMPOTENCY_KEY = /^[!-~]{1,255}$/;

/** Throws INVALID_ARGUMENT for a key that a header couldn't carry. */
export function checkIdempotencyKey(key: string | undefined): void {
  if (key !== undefined && !IDEMPOTENCY_KEY.test(key))
    throw validationFailed([
      {
        field: "Idempotency-Key",
        rule: "idempotency_key",
        message: "must be 1 to 255 visible characters of ASCII",
      },
    ]);
}

/** `legs[0].amount`: a path as it is written in JSON. */
function jsonPath(path: Path): string {
  let text = "";
  for (const step of path) {
    switch (step.kind) {
      case "field":
        text += `${text === "" ? "" : "."}${step.jsonName}`;
        break;
      case "oneof":
        text += `${text === "" ? "" : "."}${step.localName}`;
        break;
      case "extension":
        text += `[${step.typeName}]`;
        break;
      case "list_sub":
        text += `[${step.index}]`;
        break;
      case "map_sub":
        text += `[${JSON.stringify(String(step.key))}]`;
        break;
    }
  }
  return text;
}
