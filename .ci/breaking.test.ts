import { readFileSync } from "node:fs";
import { join } from "node:path";
import { clone, create, fromBinary, setExtension } from "@bufbuild/protobuf";
import {
  DescriptorProtoSchema,
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  FieldDescriptorProtoSchema,
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  type FileDescriptorSet,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { EventSchema, event } from "#contracts/polis/options/v1/options_pb.ts";
import { breakingChanges } from "./breaking.ts";

const landed = fromBinary(FileDescriptorSetSchema, readFileSync(join(import.meta.dirname, "..", "contracts", "descriptors.binpb")));
const events = "polis/orders/v1/events.proto";
const methods = "polis/orders/v1/orders.proto";

/** Today's contracts, edited. */
function edited(path: string, edit: (file: FileDescriptorProto, set: FileDescriptorSet) => void): FileDescriptorSet {
  const set = clone(FileDescriptorSetSchema, landed);
  const file = set.file.find(({ name }) => name === path);
  if (file === undefined) throw new Error(`there is no ${path}`);
  edit(file, set);
  return set;
}

const dataOf = (file: FileDescriptorProto) => file.messageType[0]!.nestedType[0]!;
const breaking = (now: FileDescriptorSet, released = false) => breakingChanges(landed, now, { released }).join("\n");

describe("of an event", () => {
  test("nothing breaks when nothing changes, or a field comes", () => {
    const type = FieldDescriptorProto_Type.STRING;
    const label = FieldDescriptorProto_Label.OPTIONAL;
    const field = create(FieldDescriptorProtoSchema, { name: "note", jsonName: "note", number: 99, type, label });
    expect(breaking(landed)).toBe("");
    expect(breaking(edited(events, (file) => dataOf(file).field.push(field)))).toBe("");
  });

  test.each<[string, (file: FileDescriptorProto, set: FileDescriptorSet) => unknown, RegExp]>([
    ["a field that goes", (file) => dataOf(file).field.pop(), /deleted/],
    ["a field with another name", (file) => Object.assign(dataOf(file).field[0]!, { name: "order", jsonName: "order" }), /name/],
    ["a field of another type", (file) => Object.assign(dataOf(file).field[2]!, { type: FieldDescriptorProto_Type.INT32 }), /type/],
    ["an event that goes", (file) => file.messageType.shift(), /OrderCreated.*deleted/],
    ["a file that goes", (file, set) => set.file.splice(set.file.indexOf(file), 1), /events\.proto.*deleted/],
  ])("%s breaks its readers", (_, edit, said) => expect(breaking(edited(events, edit))).toMatch(said));

  test("and of a task no more: it waits in a table for who comes later", () => {
    const shorter = edited("polis/orders/v1/tasks.proto", (file) => file.messageType[1]?.field.pop());
    expect(breaking(shorter)).toMatch(/tasks\.proto.*deleted/);
  });

  test("nor of a value that is kept in the key-value store", () => {
    const kept = (fields: number) =>
      edited(methods, (file, set) => {
        const message = clone(DescriptorProtoSchema, file.messageType.find(({ name }) => name === "GetOrderRequest")!);
        message.name = "Draft";
        message.field.length = fields;
        set.file.push(
          create(FileDescriptorProtoSchema, { ...file, name: "polis/orders/v1/kept.proto", messageType: [message], service: [] }),
        );
      });
    expect(breakingChanges(kept(1), kept(1), { released: false })).toEqual([]);
    expect(breakingChanges(kept(1), kept(0), { released: false }).join()).toMatch(/kept\.proto.*deleted/);
  });

  test("another topic breaks its readers", () => {
    const option = create(EventSchema, { topic: "elsewhere", key: "data.order_id" });
    const moved = edited(events, (file) => setExtension(file.messageType[0]!.options!, event, option));
    expect(breaking(moved)).toMatch(/OrderCreated was on topic "orders.events".*is on topic "elsewhere"/);
  });
});

describe("of a method", () => {
  const renamed = edited(methods, (file) => Object.assign(file.service[0]!.method[0]!, { name: "MakeOrder" }));

  test("nothing is promised before the first release", () => expect(breaking(renamed)).toBe(""));
  test("nothing may go from then on", () => expect(breaking(renamed, true)).toMatch(/CreateOrder/));
});
