import { create, createFileRegistry, type DescMessage, type MessageInitShape, type ScalarType, setExtension } from "@bufbuild/protobuf";
import {
  DescriptorProtoSchema,
  FieldDescriptorProtoSchema,
  FieldOptionsSchema,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  FieldDescriptorProto_Label as Label,
  MessageOptionsSchema,
  OneofOptionsSchema,
  FieldDescriptorProto_Type as Type,
} from "@bufbuild/protobuf/wkt";
import {
  FieldRulesSchema,
  field as fieldOption,
  MessageRulesSchema,
  message as messageOption,
  OneofRulesSchema,
  oneof as oneofOption,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

export type FieldInit = MessageInitShape<typeof FieldRulesSchema>;

/** A field that a test makes up. */
export type MadeField = {
  readonly name: string;
  /** Of scalars; of an enum of NONE = 0, ONE = 1 and FIVE = 5; of messages of its own type or of another one. */
  readonly of: ScalarType | "enum" | "itself" | DescMessage;
  /** Maps are by strings. */
  readonly as?: "single" | "optional" | "list" | "map" | "case";
  readonly rules?: FieldInit;
};
export type MadeOptions = {
  readonly syntax?: "proto2" | "proto3";
  readonly rules?: MessageInitShape<typeof MessageRulesSchema>;
  /** Of the oneof `choice`, which holds the cases. */
  readonly oneofRules?: MessageInitShape<typeof OneofRulesSchema>;
};

const NAME = ".test.v1.Made";

/** A message with these fields and rules. */
export function madeType(fields: readonly MadeField[], said: MadeOptions = {}): DescMessage {
  const cases = fields.some(({ as }) => as === "case") ? 1 : 0;
  const optionals = fields.filter(({ as }) => as === "optional");
  const options = create(MessageOptionsSchema);
  if (said.rules !== undefined) setExtension(options, messageOption, create(MessageRulesSchema, said.rules));
  const made = create(DescriptorProtoSchema, {
    name: "Made",
    options,
    field: fields.map((field, index) => madeField(field, index + 1, cases + optionals.indexOf(field))),
    oneofDecl: [
      ...(cases === 0 ? [] : [{ name: "choice", options: madeOneofOptions(said.oneofRules) }]),
      ...optionals.map(({ name }) => ({ name: `_${name}` })),
    ],
    nestedType: fields.filter(({ as }) => as === "map").map(madeEntry),
    enumType: [{ name: "Number", value: ["NONE", "ONE", "FIVE"].map((name, index) => ({ name, number: [0, 1, 5][index] ?? 0 })) }],
  });
  const others = fields.flatMap(({ of }) => (typeof of === "object" ? [of.file.proto] : []));
  const file = create(FileDescriptorProtoSchema, {
    name: "made.proto",
    package: "test.v1",
    syntax: said.syntax ?? "proto3",
    dependency: others.map(({ name }) => name),
    messageType: [made],
  });
  return createFileRegistry(create(FileDescriptorSetSchema, { file: [...others, file] })).getMessage(NAME.slice(1)) as DescMessage;
}

function madeOneofOptions(rules: MadeOptions["oneofRules"]) {
  const options = create(OneofOptionsSchema);
  if (rules !== undefined) setExtension(options, oneofOption, create(OneofRulesSchema, rules));
  return options;
}

function madeField(field: MadeField, number: number, optional: number) {
  const options = create(FieldOptionsSchema);
  if (field.rules !== undefined) setExtension(options, fieldOption, create(FieldRulesSchema, field.rules));
  const isMany = field.as === "list" || field.as === "map";
  return create(FieldDescriptorProtoSchema, {
    name: field.name,
    jsonName: field.name,
    number,
    label: isMany ? Label.REPEATED : Label.OPTIONAL,
    ...(field.as === "map" ? { type: Type.MESSAGE, typeName: `${NAME}.${entryName(field)}` } : madeContent(field)),
    options,
    ...(field.as === "case" ? { oneofIndex: 0 } : {}),
    ...(field.as === "optional" ? { oneofIndex: optional, proto3Optional: true } : {}),
  });
}

function madeContent({ of }: MadeField) {
  if (of === "enum") return { type: Type.ENUM, typeName: `${NAME}.Number` };
  if (of === "itself") return { type: Type.MESSAGE, typeName: NAME };
  // Scalars have the same numbers there and here.
  return typeof of === "object" ? { type: Type.MESSAGE, typeName: `.${of.typeName}` } : { type: of as number as Type };
}

const entryName = ({ name }: MadeField): string => `${name.slice(0, 1).toUpperCase()}${name.slice(1)}Entry`;

function madeEntry(field: MadeField) {
  const part = { label: Label.OPTIONAL };
  return {
    name: entryName(field),
    options: { mapEntry: true },
    field: [
      { ...part, name: "key", jsonName: "key", number: 1, type: Type.STRING },
      { ...part, name: "value", jsonName: "value", number: 2, ...madeContent(field) },
    ],
  };
}
