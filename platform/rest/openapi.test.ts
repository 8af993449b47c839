import { type DescField, type DescMessage, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { Validator } from "@seriousme/openapi-schema-validator";
import { describe, expect, test } from "vitest";
import { ThingsService } from "#contracts/polis/resttest/v1/resttest_pb.ts";
import { headerIdentity } from "#platform/rest/identity.ts";
import { messageFromJson, readJson, registryOf } from "#platform/rest/json.ts";
import { openApi } from "#platform/rest/openapi.ts";
import { readBindings } from "#platform/rest/routes.ts";

// Read loosely: what a test asks for is what fails it when it isn't there.
type Node = { [key: string]: Node } & Node[] & string;
const bindings = readBindings([ThingsService]);
const document = openApi({
  bindings,
  services: [ThingsService],
  info: { title: "Things", version: "1" },
  identity: headerIdentity,
}) as Node;
const operation = (path: string, method: string): Node => document.paths?.[path]?.[method] as Node;
const schema = (name: string): Node => document.components?.schemas?.[name] as Node;

/** Reads JSON as a request is read. */
const readMessage = (schema: DescMessage, example: unknown) =>
  messageFromJson(schema, readJson(Buffer.from(JSON.stringify(example))), registryOf([ThingsService]));

describe("the OpenAPI document", () => {
  test("has every binding, with the verb, the segments of a name and one path for one shape", () => {
    expect(Object.keys(document.paths ?? {}).sort()).toEqual(
      [
        "/finder",
        "/things",
        "/things/{thing_id}",
        "/owners/{owner.user_id}/things/{thing_id}",
        "/things/{thing_id}:cancel",
        "/things:cancel",
        "/echo",
        "/named/shelves/{name}/books/{name_2}",
        "/files/{name}",
        "/files/{name}:describe",
        "/names",
        "/cache",
        "/downloads/{file}",
        "/webhooks",
        "/things:watch",
        "/things:export",
        "/things:import",
        "/uploads/{file_id}",
      ].sort(),
    );
    expect(Object.keys(document.paths?.["/things/{thing_id}"] ?? {}).sort()).toEqual(["delete", "get", "patch", "put"]);
    const ids = JSON.stringify(document).match(/"operationId":"[^"]+"/g) ?? [];
    expect(new Set(ids).size).toBe(ids.length);
  });

  test("has the contract's comments as its texts", () => {
    expect(operation("/things", "post")).toMatchObject({
      operationId: "createThing",
      tags: ["Things"],
      summary: "Makes a thing. Small, as most requests are".split(". ")[0],
      description: "Makes a thing. Small, as most requests are.",
    });
    expect(document.tags).toMatchObject([{ name: "Things", description: "Things, and every way in which HTTP can reach them." }]);
    expect(schema("resttest.Thing").properties?.status?.description).toContain("- `USED`: In use.");
    expect(JSON.stringify(document)).not.toContain("buf:lint");
  });

  test("tells a method's limits, and the headers that tell how they stand", () => {
    const limited = operation("/things/{thing_id}:cancel", "post") as unknown as {
      description: string;
      responses: Record<string, { headers: object }>;
    };
    expect(limited.description).toMatch(/At most 6 requests of an address in any 60 seconds\.\n\nAt most 3 requests of a caller in any 60/);
    expect(Object.keys(limited.responses["200"]?.headers ?? {})).toEqual(["X-Request-Id", "RateLimit-Policy", "RateLimit"]);
  });

  test("tells where a client may be sent to", () => {
    expect(operation("/finder", "get").responses?.["303"]).toMatchObject({
      description: "The client is sent to the `location`.",
      headers: { Location: { schema: { type: "string", format: "uri-reference" } } },
    });
    expect(operation("/names", "get").responses?.["303"]).toBeUndefined();
  });

  test("tells the contract's rules, what is required, and examples", () => {
    expect(schema("resttest.CreateThingRequest")).toMatchObject({
      required: ["amount"],
      additionalProperties: false,
      properties: {
        amount: { type: ["string", "integer"], format: "int64", exclusiveMinimum: 0, examples: ["1000"], description: "Minor units." },
        currency: { type: "string", pattern: "^[A-Z]{3}$", examples: ["RUB"] },
        description: { type: "string", maxLength: 2000, "x-personal": true },
      },
    });
    const pageSize = operation("/things", "get").parameters?.find((parameter) => parameter.name === "page_size");
    expect(pageSize).toMatchObject({
      in: "query",
      required: false,
      schema: { type: "integer", minimum: 0, maximum: 500 },
      description: "At most so many; 50 if left out.",
    });
    expect(operation("/things/{thing_id}", "get").parameters?.[0]).toMatchObject({
      name: "thing_id",
      in: "path",
      required: true,
      schema: { format: "uuid" },
    });
  });

  test("tells what is answered apart from what is sent", () => {
    expect(schema("resttest.Thing").properties?.amount).toMatchObject({ type: "string", format: "int64" });
    expect(schema("resttest.Thing").required).toEqual(["id", "userId", "amount", "currency", "status", "labels", "notes"]);
    expect(schema("resttest.EverythingInput").properties?.int64Value?.type).toEqual(["string", "integer"]);
    expect(
      Object.keys(operation("/things/{thing_id}", "put").requestBody?.content?.["application/json"]?.schema?.properties ?? {}),
    ).toEqual(["amount", "currency"]);
  });

  test("has each method's status, its rejections and what may happen to any request, with examples of the code", () => {
    const { responses } = operation("/things", "post") as unknown as { responses: Node };
    expect(Object.keys(responses)).toEqual(["201", "400", "401", "403", "409", "413", "415", "429", "500", "503", "504"]);
    const conflict = responses["409"]?.content?.["application/problem+json"];
    expect(Object.keys(conflict?.examples ?? {})).toEqual(["thing_exists", "idempotency_key_reused"]);
    expect(conflict?.examples?.thing_exists?.value).toMatchObject({
      status: 409,
      code: "thing_exists",
      detail: "There is such a thing already.",
    });
    expect(Object.keys(operation("/things/{thing_id}", "delete").responses ?? {})[0]).toBe("204");
    const shared = (JSON.parse(JSON.stringify(document)) as { components: { responses: Record<string, Node> } }).components.responses;
    const codesOf = (status: string) => {
      const { $ref = "" } = responses[status] as unknown as { $ref?: string };
      return Object.keys(shared[$ref.split("/").at(-1) ?? ""]?.content?.["application/problem+json"]?.examples ?? {});
    };
    expect(codesOf("403")).toEqual(["forbidden", "address_blocked"]);
    expect(codesOf("429")).toEqual(["rate_limited", "overloaded"]);
    expect(codesOf("503")).toEqual(["unavailable", "overloaded"]);
  });

  test("asks for a key where a method is keyed, and for a user where it isn't public", () => {
    const key = { $ref: "#/components/parameters/IdempotencyKey" };
    expect(operation("/things", "post").parameters).toContainEqual(key);
    expect(operation("/things", "get").parameters).not.toContainEqual(key);
    expect(operation("/things", "get").security).toEqual([{ user: [] }]);
    expect(operation("/echo", "post").security).toEqual([]);
    expect(document.components?.securitySchemes?.user).toMatchObject({ type: "apiKey", name: "X-User-Id" });
  });

  test("is OpenAPI 3.1", async () => {
    const validator = new Validator();
    // As JSON has it: a key with undefined is none.
    expect(await validator.validate(JSON.parse(JSON.stringify(document)))).toEqual({ valid: true });
    expect(validator.version).toBe("3.1");
  });

  test("has an example of every JSON body, which its contract accepts; what the path holds isn't in it", () => {
    let checked = 0;
    for (const binding of bindings.filter(({ httpMethod }) => httpMethod !== "PURGE")) {
      const { method, body, options, rawRequest, rawResponse, responseBody, pathFields } = binding;
      const operations = Object.values(document.paths ?? {}).map((item) => item[binding.httpMethod.toLowerCase()]);
      const documented = operations.find(
        (candidate) =>
          candidate?.operationId?.replace(/_\d+$/, "") === method.localName &&
          (body.kind === "none") === (candidate.requestBody === undefined),
      );
      if (body.kind !== "none" && !rawRequest) {
        const [media] = Object.values(documented?.requestBody?.content ?? {});
        const schema = body.kind === "field" ? body.field.message : method.input;
        expect(() => readMessage(schema ?? method.input, media?.example), method.name).not.toThrow();
        for (const chain of pathFields) expect(media?.example).not.toHaveProperty((chain.at(-1) as DescField).jsonName);
        checked++;
      }
      if (!rawResponse && options.httpStatus !== 204) {
        const [media] = Object.values(documented?.responses?.[String(options.httpStatus)]?.content ?? {});
        const answer = responseBody === undefined ? media?.example : { [responseBody.jsonName]: media?.example };
        expect(() => fromJson(method.output, answer as JsonValue), method.name).not.toThrow();
        checked++;
      }
    }
    expect(checked).toBeGreaterThan(20);
    expect(operation("/things", "post").requestBody?.content?.["application/json"]?.example).toEqual({
      amount: "1000",
      currency: "RUB",
      description: "text",
    });
  });

  test("refers to nothing that isn't there", () => {
    const references = new Set((JSON.stringify(document).match(/"\$ref":"#\/[^"]+"/g) ?? []).map((text) => text.slice(8, -1)));
    expect(references.size).toBeGreaterThan(10);
    for (const reference of references) {
      const target = reference
        .split("/")
        .slice(1)
        .reduce<Node | undefined>((node, key) => node?.[key], document);
      expect(target, reference).toBeDefined();
    }
  });
});
