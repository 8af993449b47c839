import { Validator } from "@seriousme/openapi-schema-validator";
import { describe, expect, test } from "vitest";
import { headerIdentity } from "#platform/rest/identity.ts";
import { messageFromJson, readJson, registryOf } from "#platform/rest/json.ts";
import { openApi } from "#platform/rest/openapi.ts";
import { readBindings } from "#platform/rest/routes.ts";
import { statuses } from "#platform/rpc/call-error.ts";
import { validate } from "#platform/rpc/validation.ts";
import { systems } from "../cli/systems.ts";

// Read loosely: what a test asks for is what fails it when it isn't there.
type Node = { [key: string]: Node } & Node[] & string;

describe.each(systems)("the OpenAPI document of $name", ({ title, services: definitions }) => {
  const services = definitions.map(({ contract }) => contract);
  const bindings = readBindings(services);
  const input = { bindings, services, info: { title, version: "1" }, identity: headerIdentity };
  const text = JSON.stringify(openApi(input));
  const document = JSON.parse(text) as Node;
  const routes = bindings.map((binding) => {
    // None of these has a variable of several segments.
    const path = binding.template.text;
    return {
      name: `${binding.httpMethod} ${path}`,
      binding,
      operation: document.paths?.[path]?.[binding.httpMethod.toLowerCase()] as Node,
    };
  });

  test("is valid as 3.1", async () => {
    const validator = new Validator();
    expect(await validator.validate(JSON.parse(text))).toEqual({ valid: true });
    expect(validator.version).toBe("3.1");
  });

  test("has every route of the contracts, and no other", () => {
    expect(routes.length).toBeGreaterThan(0);
    const documented = Object.entries(document.paths ?? {}).flatMap(([path, item]) =>
      Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(documented.sort()).toEqual(routes.map(({ name }) => name).sort());
  });

  test.each(routes)("tells of $name: texts, errors with their codes, examples", ({ binding, operation }) => {
    const { method, options, body } = binding;
    expect(operation.summary).toMatch(/\S/);
    expect(operation.description).toMatch(/\S/);
    for (const parameter of operation.parameters ?? [])
      if (parameter.$ref === undefined) expect(parameter.schema, parameter.name).toBeDefined();

    for (const [code, { status, text }] of options.rejections) {
      const problem = responseOf(document, operation, statuses[status].http).content?.["application/problem+json"];
      expect(problem?.examples?.[code]).toMatchObject({ summary: text, value: { code, status: statuses[status].http } });
      expect(JSON.stringify(problem?.schema)).toContain(`"${code}"`);
    }
    for (const status of options.access.public ? [400, 500, 503] : [400, 401, 403, 500, 503])
      expect(Object.keys(responseOf(document, operation, status).content?.["application/problem+json"]?.examples ?? {})).not.toEqual([]);
    const withoutText = Object.values(operation.responses ?? {}).filter(
      (response) => resolve(document, response).description?.trim() === "",
    );
    expect(withoutText).toEqual([]);

    if (body.kind !== "none" && !binding.rawRequest) {
      const example = operation.requestBody?.content?.["application/json"]?.example;
      expect(example, "the request's example").toBeDefined();
      const exampleOf = (name: string | undefined) => operation.parameters?.find((each) => each.name === name)?.schema?.examples?.[0];
      const path = Object.fromEntries(binding.pathFields.map(([field]) => [field?.jsonName, exampleOf(field?.name) ?? pathExample]));
      const sent = { ...path, ...(example as unknown as object) };
      // It is accepted as it stands.
      validate(method.input, messageFromJson(method.input, readJson(Buffer.from(JSON.stringify(sent))), registryOf(services)));
    }
    if (options.httpStatus !== 204 && !binding.rawResponse)
      for (const media of Object.values(responseOf(document, operation, options.httpStatus).content ?? {}))
        expect(media.example, "the answer's example").toBeDefined();
  });
});

const pathExample = "0190b6a0-7c1e-7000-8000-3d6f1c2b4a59";

const responseOf = (document: Node, operation: Node, status: number): Node =>
  resolve(document, operation.responses?.[String(status)] as Node);

/** What a reference within the document leads to. */
function resolve(document: Node, node: Node): Node {
  expect(node).toBeDefined();
  if (node.$ref === undefined) return node;
  let target = document;
  for (const key of node.$ref.split("/").slice(1)) target = target[key as keyof Node] as Node;
  return target;
}
