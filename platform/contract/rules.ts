import { create, type DescMessage, type Message } from "@bufbuild/protobuf";
import { createValidator, type ValidationResult } from "@bufbuild/protovalidate";
import { messageCheck } from "#platform/contract/fast-pass.ts";
import { type Check, never } from "#platform/contract/value-rules.ts";

// One for the process: it compiles the rules of a type once.
const validator = createValidator();

/** Says what is wrong with the rules of a type, which would else be found by the first message of it. */
export function ruleFault(schema: DescMessage): string | undefined {
  const result = validator.validate(schema, create(schema));
  return result.kind === "error" ? `${schema.typeName}: ${result.error.message}` : undefined;
}

/** How a message breaks the rules of its contract (`invalid`), or why that can't be told (`error`). */
export type Breach = Exclude<ValidationResult, { kind: "valid" }>;

/** What is wrong with a message by the rules of its contract; undefined where it is valid. */
export function breach(schema: DescMessage, message: Message): Breach | undefined {
  if (surelyValid(schema, message)) return undefined;
  const result = validator.validate(schema, message);
  return result.kind === "valid" ? undefined : result;
}

const passes = new WeakMap<DescMessage, Check>();

/** True only where protovalidate would surely find the message valid; false tells nothing. */
export function surelyValid(schema: DescMessage, message: Message): boolean {
  let pass = passes.get(schema);
  if (pass === undefined) {
    // A fault in the rules of a type is a fault of each of its messages, whether or not they hold what the rule is about.
    pass = ruleFault(schema) === undefined ? messageCheck(schema) : never;
    passes.set(schema, pass);
  }
  try {
    return message.$typeName === schema.typeName && pass(message);
  } catch {
    // What isn't built as a message should be is protovalidate's to judge.
    return false;
  }
}
