import {
  type DescEnum,
  type DescExtension,
  type DescField,
  type DescFile,
  type DescMessage,
  type DescOneof,
  ScalarType,
} from "@bufbuild/protobuf";
import { FieldDescriptorProto_Label as Label } from "@bufbuild/protobuf/wkt";

/** The ends of the widest ranges, as descriptors have them: of field numbers exclusive, of enum values inclusive. */
const FIELD_NUMBERS_END = 0x2000_0000;
const ENUM_VALUES_END = 0x7fff_ffff;

/**
 * The messages, enums and extensions of a file of proto2 or proto3 as text, without services, comments, defaults (of proto2) and
 * options but `allow_alias`, and without the imports that nothing needs then. Types are named in full. The same descriptor gives
 * the same text. Throws for a file of an edition, and for a group.
 */
export function printProto(file: DescFile): string {
  const { syntax = "", package: name } = file.proto;
  if (!["", "proto2", "proto3"].includes(syntax)) throw new Error(`${file.name}.proto: ${syntax} can't be printed`);
  const parts = [
    [`syntax = "${syntax || "proto2"}";`],
    name === "" ? [] : [`package ${name};`],
    neededImports(file).map((path) => `import "${path}";`),
    ...file.enums.map(enumLines),
    ...file.messages.map(messageLines),
    ...file.extensions.map(extensionLines),
  ];
  return parts
    .filter((lines) => lines.length > 0)
    .map((lines) => `${lines.join("\n")}\n`)
    .join("\n");
}

/** The files, by path, from which a file needs types: what it imports for its options alone isn't among them. */
export function neededImports(file: DescFile): string[] {
  const members = membersOf(file);
  const needed = members.flatMap((member) => [member.message, member.enum, member.kind === "extension" ? member.extendee : undefined]);
  const paths = new Set(needed.map((type) => type && `${type.file.name}.proto`));
  return file.proto.dependency.filter((path) => paths.has(path));
}

/** All fields and extensions of a file or message, at any depth. */
const membersOf = (of: DescFile | DescMessage): (DescField | DescExtension)[] =>
  of.kind === "file"
    ? [...of.extensions, ...of.messages.flatMap(membersOf)]
    : [...of.fields, ...of.nestedExtensions, ...of.nestedMessages.flatMap(membersOf)];

const block = (head: string, lines: readonly string[]): string[] =>
  lines.length === 0 ? [`${head} {}`] : [`${head} {`, ...lines.map((line) => `  ${line}`), "}"];

const messageLines = (message: DescMessage): string[] =>
  block(`message ${message.name}`, [
    ...message.proto.extensionRange.map((range) => `extensions ${rangeText(range)};`),
    ...reservedLines(message.proto.reservedRange.map(rangeText), message.proto.reservedName),
    ...message.members.flatMap((member) => (member.kind === "oneof" ? oneofLines(member) : [fieldLine(member)])),
    ...message.nestedEnums.flatMap(enumLines),
    ...message.nestedMessages.flatMap(messageLines),
    ...message.nestedExtensions.flatMap(extensionLines),
  ]);

const oneofLines = (oneof: DescOneof): string[] => block(`oneof ${oneof.name}`, oneof.fields.map(fieldLine));

const extensionLines = (extension: DescExtension): string[] => block(`extend .${extension.extendee.typeName}`, [fieldLine(extension)]);

const enumLines = ({ name, proto, values }: DescEnum): string[] =>
  block(`enum ${name}`, [
    ...(proto.options?.allowAlias === true ? ["option allow_alias = true;"] : []),
    ...reservedLines(
      proto.reservedRange.map(({ start, end }) => (start === end ? String(start) : `${start} to ${end === ENUM_VALUES_END ? "max" : end}`)),
      proto.reservedName,
    ),
    ...values.map((value) => `${value.name} = ${value.number};`),
  ]);

const fieldLine = (field: DescField | DescExtension): string => `${label(field)}${fieldType(field)} ${field.name} = ${field.number};`;

function label(field: DescField | DescExtension): string {
  if (field.fieldKind === "map" || (field.kind === "field" && field.oneof !== undefined)) return "";
  if (field.fieldKind === "list") return "repeated ";
  if (field.proto.label === Label.REQUIRED) return "required ";
  const { syntax = "" } = (field.kind === "field" ? field.parent.file : field.file).proto;
  return syntax === "proto3" && !field.proto.proto3Optional ? "" : "optional ";
}

function fieldType(field: DescField | DescExtension): string {
  const type = field.message ?? field.enum;
  if (field.fieldKind === "message" && field.delimitedEncoding) throw new Error(`${field}: a group can't be printed`);
  const name = type !== undefined ? `.${type.typeName}` : scalarName(field.scalar ?? ScalarType.STRING);
  return field.kind === "field" && field.fieldKind === "map" ? `map<${scalarName(field.mapKey)}, ${name}>` : name;
}

const scalarName = (scalar: ScalarType): string => ScalarType[scalar].toLowerCase();

const rangeText = ({ start, end }: { readonly start: number; readonly end: number }): string =>
  end === start + 1 ? String(start) : `${start} to ${end >= FIELD_NUMBERS_END ? "max" : end - 1}`;

const reservedLines = (ranges: readonly string[], names: readonly string[]): string[] =>
  [ranges, names.map((name) => `"${name}"`)].filter((list) => list.length > 0).map((list) => `reserved ${list.join(", ")};`);
