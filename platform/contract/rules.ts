import { create, type DescMessage, type Message } from "@bufbuild/protobuf";
import { createValidator, type ValidationResult } from "@bufbuild/protovalidate";

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
  const result = validator.validate(schema, message);
  return result.kind === "valid" ? undefined : result;
}
