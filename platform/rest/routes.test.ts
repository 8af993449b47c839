import { create, createFileRegistry, type DescService, setExtension } from "@bufbuild/protobuf";
import {
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  FileDescriptorProtoSchema,
  MethodOptionsSchema,
} from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { http } from "#contracts/google/api/annotations_pb.ts";
import { type HttpRule, HttpRuleSchema } from "#contracts/google/api/http_pb.ts";
import { Method_Idempotency, MethodSchema, method as methodOption } from "#contracts/polis/options/v1/options_pb.ts";
import { ThingsService } from "#contracts/polis/resttest/v1/resttest_pb.ts";
import { matchPath, parsePathTemplate } from "#platform/rest/path-template.ts";
import { readBindings } from "#platform/rest/routes.ts";

type Init = Parameters<typeof create<typeof HttpRuleSchema>>[1];
const get = (path: string, more: Omit<NonNullable<Init>, "$typeName"> = {}): HttpRule =>
  create(HttpRuleSchema, { ...more, pattern: { case: "get", value: path } });
const post = (path: string, more: Omit<NonNullable<Init>, "$typeName"> = {}): HttpRule =>
  create(HttpRuleSchema, { ...more, pattern: { case: "post", value: path } });

/** A service whose methods have these rules; requests hold `id` and a repeated `tags`. */
function serviceOf(
  rules: readonly HttpRule[],
  { redirect = "", ...stream }: { client?: boolean; server?: boolean; redirect?: string } = {},
): DescService {
  const label = FieldDescriptorProto_Label;
  const type = FieldDescriptorProto_Type.STRING;
  const file = create(FileDescriptorProtoSchema, {
    name: "made.proto",
    package: "polis.made.v1",
    syntax: "proto3",
    messageType: [
      {
        name: "Request",
        field: [
          { name: "id", jsonName: "id", number: 1, type, label: label.OPTIONAL },
          { name: "tags", jsonName: "tags", number: 2, type, label: label.REPEATED },
        ],
      },
    ],
    service: [
      {
        name: "MadeService",
        method: rules.map((rule, index) => {
          const options = create(MethodOptionsSchema);
          setExtension(options, http, rule);
          setExtension(
            options,
            methodOption,
            create(MethodSchema, { idempotency: Method_Idempotency.READ, access: { public: true }, redirect }),
          );
          const [inputType, outputType] = [".polis.made.v1.Request", ".polis.made.v1.Request"];
          return {
            name: `M${index}`,
            inputType,
            outputType,
            options,
            clientStreaming: stream.client === true,
            serverStreaming: stream.server === true,
          };
        }),
      },
    ],
  });
  return createFileRegistry(file, () => undefined).getService("polis.made.v1.MadeService") as DescService;
}

const faultsOf = (rules: readonly HttpRule[], stream?: Parameters<typeof serviceOf>[1]): string => {
  try {
    readBindings([serviceOf(rules, stream)]);
    return "";
  } catch (error) {
    return (error as Error).message;
  }
};

describe("a contract's routes", () => {
  test("are read with their additional bindings", () => {
    const bindings = readBindings([ThingsService]);
    expect(bindings.map(({ httpMethod, template }) => `${httpMethod} ${template.text}`)).toContain(
      "GET /owners/{owner.user_id}/things/{thing_id}",
    );
    expect(bindings.filter(({ method }) => method.name === "GetNamed")).toHaveLength(3);
  });

  test.each([
    ["two for the same requests", [get("/a/{id}"), get("/a/{id=*}")], /M1: GET \/a\/\{id=\*\} is taken by .*M0/],
    [
      "one for every method and one for some",
      [create(HttpRuleSchema, { pattern: { case: "custom", value: { kind: "*", path: "/a" } } }), get("/a")],
      /is taken/,
    ],
    ["one that the edge serves itself", [get("/healthz")], /taken by the edge itself/],
    ["a field that isn't there", [get("/a/{nope}")], /has no field nope/],
    ["a repeated field in a path", [get("/a/{tags}")], /tags can't stand in a path/],
    ["a path through what is no message", [get("/a/{id.x}")], /leads through a field that is no message/],
    ["a body that isn't there", [post("/a", { body: "nope" })], /has no field nope/],
    ["a body for GET", [get("/a", { body: "*" })], /GET can't have a body/],
    ["an answer's field that isn't there", [get("/a", { responseBody: "nope" })], /has no field nope/],
    ["no path at all", [create(HttpRuleSchema)], /names no path/],
    ["** before the end", [get("/a/{id=**}/b")], /\*\* must stand last/],
    ["a variable twice", [get("/a/{id}/{id}")], /occurs twice/],
    ["braces that don't close", [get("/a/{id")], /can't read/],
    ["a path without a slash", [get("a")], /must begin with/],
  ])("are refused at start: %s", (_what, rules, fault) => {
    expect(faultsOf(rules)).toMatch(fault);
  });

  test("have all their faults named at once", () => {
    const message = faultsOf([get("/a"), get("/a"), get("/b/{nope}"), get("c")]);
    expect(
      message
        .split("\n")
        .slice(1)
        .map((line) => line.trim().slice(0, 32)),
    ).toEqual([1, 2, 3].map((index) => `- polis.made.v1.MadeService/M${index}: `.slice(0, 32)));
  });

  test("that differ by their verb alone can't have their bodies read in two ways", () => {
    const streams = serviceOf([post("/things/{id}:import", { body: "*" })], { client: true });
    expect(() => readBindings([ThingsService, streams])).toThrow(
      /takes a stream, and .*CancelThing, which differs by its verb alone, JSON/,
    );
  });

  test("send clients to what is one text of the one answer alone", () => {
    expect(readBindings([serviceOf([get("/a")], { redirect: "id" })])[0]?.options.redirect?.name).toBe("id");
    const faults = [{ redirect: "nope" }, { redirect: "tags" }, { redirect: "id", server: true }];
    for (const said of faults) expect(() => readBindings([serviceOf([get("/a")], said)])).toThrow(/`redirect` is \w+; it must be a text/);
  });

  test("can't be streams both ways, nor take a stream without a body", () => {
    expect(faultsOf([post("/a", { body: "*" })], { client: true, server: true })).toMatch(/stream both ways/);
    expect(faultsOf([post("/a")], { client: true })).toMatch(/needs a body/);
  });

  test("that differ by verb or by literal are no conflict", () => {
    expect(faultsOf([get("/a/{id}"), get("/a/{id}:check"), get("/a/b"), post("/a/{id}"), get("/a/{id=**}")])).toBe("");
  });
});

describe("a path", () => {
  test("gives back whatever text was put into it", () => {
    const one = parsePathTemplate("/things/{thing_id}:cancel");
    const rest = parsePathTemplate("/files/{name=**}");
    const segment = fc.string({ minLength: 1, unit: "grapheme" }).filter((text) => text.isWellFormed());
    fc.assert(
      fc.property(segment, fc.array(segment, { minLength: 1 }), (id, parts) => {
        expect(matchPath(one, `/things/${encodeURIComponent(id)}:cancel`)).toEqual([id]);
        const path = `/files/${parts.map(encodeURIComponent).join("/")}`;
        expect(matchPath(rest, path)).toEqual([parts.map((part) => part.replaceAll("/", "%2F")).join("/")]);
      }),
    );
  });

  test("that is shorter, longer, or without its verb doesn't match", () => {
    const template = parsePathTemplate("/a/{x=b/*}/{y}:go");
    expect(matchPath(template, "/a/b/1/2:go")).toEqual(["b/1", "2"]);
    for (const path of ["/a/b/1/2", "/a/b/1:go", "/a/b/1/2/3:go", "/a/c/1/2:go", "/a/b//2:go", "/a/b/1/:go"])
      expect(matchPath(template, path)).toBeUndefined();
  });
});
