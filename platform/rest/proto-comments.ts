import { readFileSync } from "node:fs";
import { fromBinary } from "@bufbuild/protobuf";
import { type DescriptorProto, type EnumDescriptorProto, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

/** Comments of the contracts by full name: `polis.orders.v1.Order.amount`, `polis.orders.v1.OrdersService.CreateOrder`. */
export type Comments = ReadonlyMap<string, string>;

const DESCRIPTORS = new URL("../../contracts/descriptors.binpb", import.meta.url);

/** Reads the comments from contracts/descriptors.binpb: the generated code carries descriptors without them. */
export function readComments(): Comments {
  const comments = new Map<string, string>();
  for (const file of fromBinary(FileDescriptorSetSchema, readFileSync(DESCRIPTORS)).file) {
    const byPath = new Map<string, string>();
    for (const { path, leadingComments, trailingComments } of file.sourceCodeInfo?.location ?? []) {
      const text = clean(leadingComments || trailingComments);
      if (text !== "") byPath.set(path.join("."), text);
    }
    const note = (name: string, path: readonly number[]) => {
      const text = byPath.get(path.join("."));
      if (text !== undefined) comments.set(name, text);
    };
    // The numbers are those of the fields in descriptor.proto.
    for (const [i, message] of file.messageType.entries()) noteMessage(message, file.package, [4, i], note);
    for (const [i, type] of file.enumType.entries()) noteEnum(type, file.package, [5, i], note);
    for (const [i, service] of file.service.entries()) {
      const name = `${file.package}.${service.name}`;
      note(name, [6, i]);
      for (const [j, method] of service.method.entries()) note(`${name}.${method.name}`, [6, i, 2, j]);
    }
  }
  return comments;
}

type Note = (name: string, path: readonly number[]) => void;

function noteMessage(message: DescriptorProto, within: string, path: readonly number[], note: Note): void {
  const name = `${within}.${message.name}`;
  note(name, path);
  for (const [i, field] of message.field.entries()) note(`${name}.${field.name}`, [...path, 2, i]);
  for (const [i, nested] of message.nestedType.entries()) noteMessage(nested, name, [...path, 3, i], note);
  for (const [i, type] of message.enumType.entries()) noteEnum(type, name, [...path, 4, i], note);
}

function noteEnum(type: EnumDescriptorProto, within: string, path: readonly number[], note: Note): void {
  const name = `${within}.${type.name}`;
  note(name, path);
  for (const [i, value] of type.value.entries()) note(`${name}.${value.name}`, [...path, 2, i]);
}

/** Without the space behind the slashes and without what is said to tools. */
const clean = (text: string): string =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => !line.startsWith("buf:"))
    .join("\n")
    .trim();
