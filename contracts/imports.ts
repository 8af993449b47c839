import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { type DescEnum, type DescExtension, type DescField, type DescMessage, type DescOneof, ScalarType } from "@bufbuild/protobuf";
import { file_buf_validate_validate as validate } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

const imports = join(import.meta.dirname, "..", ".cache", "contracts");

/**
 * Lays beside our contracts what they import from others, for buf: .cache/contracts/{google/api,buf/validate}. google.api comes
 * as .proto files in the npm package protobufjs; buf.validate comes in no npm package, so its file is printed from the
 * descriptor that @bufbuild/protovalidate carries.
 */
export function layImports(): void {
  write(join(imports, "buf", "validate", "validate.proto"), printValidate());
  const google = join(dirname(createRequire(import.meta.url).resolve("protobufjs/package.json")), "google", "api");
  for (const name of ["annotations.proto", "http.proto"]) {
    const text = readFileSync(join(google, name), "utf8");
    // protobufjs' HttpRule is from before `response_body`; the number is that of googleapis.
    const whole = name !== "http.proto" || text.includes("response_body");
    write(join(imports, "google", "api", name), whole ? text : text.replace("string body = 7;", "$&\n    string response_body = 12;"));
  }
}

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
const pad = (depth: number) => "  ".repeat(depth);

const typeName = (field: DescField | DescExtension): string => {
  if (field.message !== undefined) return `.${field.message.typeName}`;
  if (field.enum !== undefined) return `.${field.enum.typeName}`;
  return ScalarType[field.scalar ?? ScalarType.STRING].toLowerCase();
};

const printField = (field: DescField | DescExtension, depth: number): string => {
  if (field.kind === "field" && field.fieldKind === "map")
    return `${pad(depth)}map<${ScalarType[field.mapKey].toLowerCase()}, ${typeName(field)}> ${field.name} = ${field.number};\n`;
  const inOneof = field.kind === "field" && field.oneof !== undefined;
  const label = field.fieldKind === "list" ? "repeated " : inOneof ? "" : "optional ";
  return `${pad(depth)}${label}${typeName(field)} ${field.name} = ${field.number};\n`;
};

const printEnum = (type: DescEnum, depth: number): string =>
  `${pad(depth)}enum ${type.name} {\n${type.values.map((v) => `${pad(depth + 1)}${v.name} = ${v.number};\n`).join("")}${pad(depth)}}\n`;

const printOneof = (oneof: DescOneof, depth: number): string =>
  `${pad(depth)}oneof ${oneof.name} {\n${oneof.fields.map((f) => printField(f, depth + 1)).join("")}${pad(depth)}}\n`;

const printMessage = (message: DescMessage, depth: number): string => {
  const ranges = message.proto.extensionRange.map(
    (r) => `${pad(depth + 1)}extensions ${r.start} to ${r.end > 536870911 ? "max" : (r.end ?? 0) - 1};\n`,
  );
  const members = message.members.map((m) => (m.kind === "oneof" ? printOneof(m, depth + 1) : printField(m, depth + 1)));
  const nested = [
    ...message.nestedEnums.map((e) => printEnum(e, depth + 1)),
    ...message.nestedMessages.map((m) => printMessage(m, depth + 1)),
  ];
  return `${pad(depth)}message ${message.name} {\n${[...ranges, ...members, ...nested].join("")}${pad(depth)}}\n`;
};

const printExtension = (extension: DescExtension): string => `extend .${extension.extendee.typeName} {\n${printField(extension, 1)}}\n`;

const printValidate = (): string =>
  [
    'syntax = "proto2";\n\npackage buf.validate;\n',
    validate.proto.dependency.map((name) => `import "${name}";\n`).join(""),
    validate.enums.map((e) => printEnum(e, 0)).join("\n"),
    validate.messages.map((m) => printMessage(m, 0)).join("\n"),
    validate.extensions.map(printExtension).join("\n"),
  ].join("\n");
