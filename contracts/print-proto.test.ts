import { clone, type DescFile, toJson } from "@bufbuild/protobuf";
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  type FieldDescriptorProto,
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
} from "@bufbuild/protobuf/wkt";
import { file_buf_validate_validate } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { expect, test } from "vitest";
import { fileOf } from "./file-of.testing.ts";
import { file_polis_conformance_v1_conformance } from "./polis/conformance/v1/conformance_pb.ts";
import { file_polis_orders_v1_events } from "./polis/orders/v1/events_pb.ts";
import { printProto } from "./print-proto.ts";

/** What is printed of a file, as JSON. */
function shape(file: DescFile): unknown {
  const bare: FileDescriptorProto = clone(FileDescriptorProtoSchema, file.proto);
  const dropOptions = (one: { options?: unknown }): void => void delete one.options;
  const fields = (list: readonly FieldDescriptorProto[]): void => {
    for (const field of list) {
      dropOptions(field);
      field.jsonName = "";
      field.defaultValue = "";
    }
  };
  const enums = (list: readonly EnumDescriptorProto[]): void => {
    for (const type of list) {
      type.value.forEach(dropOptions);
      if (type.options?.allowAlias !== true) dropOptions(type);
    }
  };
  const messages = (list: readonly DescriptorProto[]): void => {
    for (const message of list) {
      if (message.options?.mapEntry !== true) dropOptions(message);
      for (const range of message.extensionRange) dropOptions(range);
      message.oneofDecl.forEach(dropOptions);
      fields([...message.field, ...message.extension]);
      enums(message.enumType);
      messages(message.nestedType);
    }
  };
  dropOptions(bare);
  bare.service = [];
  bare.dependency = [];
  delete bare.sourceCodeInfo;
  enums(bare.enumType);
  messages(bare.messageType);
  fields(bare.extension);
  return toJson(FileDescriptorProtoSchema, bare);
}

const everything = `syntax = "proto3";

package some.thing.v1;

import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";

enum Colour {
  option allow_alias = true;
  reserved 7, 9 to 11, 40 to max;
  reserved "MAUVE";
  COLOUR_UNSPECIFIED = 0;
  RED = 1;
  CRIMSON = 1;
}

message Nothing {}

message Whole {
  reserved 5, 8 to 10, 1000 to max;
  reserved "old", "older";
  optional string note = 1;
  repeated sint64 numbers = 2;
  map<string, .some.thing.v1.Whole.Part> parts = 3;
  oneof one {
    bytes raw = 4;
    .google.protobuf.Any any = 6;
  }
  .some.thing.v1.Colour colour = 7;
  message Part {
    .some.thing.v1.Whole.Part.Kind kind = 1;
    .google.protobuf.Duration lasts = 2;
    enum Kind {
      KIND_UNSPECIFIED = 0;
      ODD = -1;
    }
  }
}
`;

test("a file with every kind of thing is printed as it was written", () => {
  expect(printProto(fileOf("some/thing/v1/thing.proto", everything))).toBe(everything);
});

test("what is printed of a file is the same file but for services, options and what only they import", () => {
  for (const file of [file_polis_orders_v1_events, file_polis_conformance_v1_conformance, file_buf_validate_validate])
    expect(shape(fileOf(`${file.name}.proto`, printProto(file)))).toEqual(shape(file));
  expect(printProto(file_polis_orders_v1_events)).not.toMatch(/validate|polis\/options|\/\//);
});

test("a file without a package has no line of one", () => {
  const text = 'syntax = "proto3";\n\nmessage Thing {}\n';
  expect(printProto(fileOf("thing.proto", text))).toBe(text);
});

test.each([
  { text: 'edition = "2023";\npackage new;\nmessage Thing {}\n', fault: "new/thing.proto" },
  { text: 'syntax = "proto2";\nmessage Thing { optional group Part = 1 {} }\n', fault: "part: a group can't be printed" },
])("$fault: what can't be printed is refused by its name", ({ text, fault }) => {
  expect(() => printProto(fileOf("new/thing.proto", text))).toThrow(fault);
});
