import { type DescField, type DescMessage, type DescMethod, type DescService, getOption, hasOption } from "@bufbuild/protobuf";
import { http } from "#contracts/google/api/annotations_pb.ts";
import type { HttpRule } from "#contracts/google/api/http_pb.ts";
import { type MethodOptions, methodName, methodOptions } from "#platform/contract/method-options.ts";
import { type PathTemplate, parsePathTemplate, routerPath, templateShape } from "#platform/rest/path-template.ts";

/** One way in which HTTP reaches a method. A method has as many as its rule and its `additional_bindings` say. */
export type Binding = {
  readonly method: DescMethod;
  readonly options: MethodOptions;
  /** `GET`, or `*` for every method. */
  readonly httpMethod: string;
  readonly template: PathTemplate;
  /** The fields that the template's variables fill, in their order: each a chain from the request's field down to a scalar. */
  readonly pathFields: readonly (readonly DescField[])[];
  /** What of the request the body is. Without a body, or with a field as body, the rest comes from the query. */
  readonly body: { readonly kind: "none" } | { readonly kind: "whole" } | { readonly kind: "field"; readonly field: DescField };
  /** The field of the answer that is its body; undefined: the whole. */
  readonly responseBody: DescField | undefined;
  /** The message that the request's body holds is google.api.HttpBody: bytes, of any type. */
  readonly rawRequest: boolean;
  /** The answer is google.api.HttpBody. */
  readonly rawResponse: boolean;
  /** 0 for the rule itself, then its additional bindings. */
  readonly index: number;
};

/** A binding as a request met it. */
export type Matched = { readonly binding: Binding; readonly pathValues: readonly string[]; readonly rawQuery: string };

/** Paths that the edge itself serves. */
const ownPaths = ["/", "/healthz", "/readyz", "/metrics", "/swagger/doc.json", "/docs", "/docs/*"];

export const isOwnPath = (path: string): boolean => ownPaths.includes(path) || path.startsWith("/docs/");

const isHttpBody = (message: DescMessage | undefined): boolean => message?.typeName === "google.api.HttpBody";

/**
 * Reads every binding of every service. Throws one Error that names all faults: templates that can't be read, fields that
 * aren't there, two bindings for the same requests.
 */
export function readBindings(services: readonly DescService[]): Binding[] {
  const faults: string[] = [];
  const bindings: Binding[] = [];
  const taken = new Map(ownPaths.map((path) => [`GET ${path}`, "the edge itself"]));
  const readings = new Map<string, { reading: string; name: string }>();
  for (const method of services.flatMap((service) => service.methods)) {
    if (!hasOption(method, http)) continue;
    const rule = getOption(method, http);
    for (const [index, part] of [rule, ...rule.additionalBindings].entries()) {
      try {
        const binding = readBinding(method, part, index);
        claim(binding, taken);
        claimReading(binding, readings);
        bindings.push(binding);
      } catch (error) {
        faults.push(`${methodName(method)}: ${(error as Error).message}`);
      }
    }
  }
  if (faults.length > 0) throw new Error(`The contracts' HTTP routes don't hold:\n${faults.map((fault) => `  - ${fault}`).join("\n")}`);
  return bindings;
}

function claim(binding: Binding, taken: Map<string, string>): void {
  const shape = templateShape(binding.template).replaceAll(/:p\d+/g, ":p");
  const { httpMethod } = binding;
  const key = `${httpMethod} ${shape}`;
  const clash = [...taken].find(([other]) => {
    const [otherMethod, ...rest] = other.split(" ");
    return rest.join(" ") === shape && (otherMethod === httpMethod || otherMethod === "*" || httpMethod === "*");
  });
  if (clash !== undefined) throw new Error(`${httpMethod} ${binding.template.text} is taken by ${clash[1]}`);
  taken.set(key, methodName(binding.method));
}

/** Routes that differ by their verb alone share one of Fastify's, and so the way in which their body is read. */
function claimReading(
  { httpMethod, template, method, rawRequest }: Binding,
  readings: Map<string, { reading: string; name: string }>,
): void {
  const reading = method.methodKind === "client_streaming" ? "a stream" : rawRequest ? "bytes" : "JSON";
  const key = `${httpMethod} ${routerPath(template)}`;
  const first = readings.get(key);
  if (first !== undefined && first.reading !== reading)
    throw new Error(
      `${httpMethod} ${template.text} takes ${reading}, and ${first.name}, which differs by its verb alone, ${first.reading}`,
    );
  readings.set(key, first ?? { reading, name: methodName(method) });
}

function readBinding(method: DescMethod, rule: HttpRule, index: number): Binding {
  const [httpMethod, path] = verbAndPath(rule);
  if (index > 0 && rule.additionalBindings.length > 0) throw new Error("additional_bindings may not be nested");
  if (method.methodKind === "bidi_streaming") throw new Error("a stream both ways has no mapping to HTTP");
  const template = parsePathTemplate(path);
  const pathFields = template.variables.map(({ fieldPath }) => pathField(method.input, fieldPath));
  const body = bodyOf(method.input, rule.body);
  if (body.kind !== "none" && (httpMethod === "GET" || httpMethod === "HEAD")) throw new Error(`${httpMethod} can't have a body`);
  if (method.methodKind === "client_streaming" && body.kind === "none") throw new Error("a stream of requests needs a body");
  const responseBody = rule.responseBody === "" ? undefined : fieldOf(method.output, rule.responseBody);
  return {
    method,
    options: methodOptions(method),
    httpMethod,
    template,
    pathFields,
    body,
    responseBody,
    rawRequest: isHttpBody(body.kind === "whole" ? method.input : body.kind === "field" ? body.field.message : undefined),
    rawResponse: isHttpBody(responseBody === undefined ? method.output : responseBody.message),
    index,
  };
}

function verbAndPath({ pattern }: HttpRule): [string, string] {
  if (pattern.case === undefined) throw new Error("google.api.http names no path");
  if (pattern.case !== "custom") return [pattern.case.toUpperCase(), pattern.value];
  const { kind, path } = pattern.value;
  if (kind !== "*" && !/^[A-Z]+$/.test(kind)) throw new Error(`custom kind ${JSON.stringify(kind)} is no method of HTTP`);
  return [kind, path];
}

function bodyOf(input: DescMessage, body: string): Binding["body"] {
  if (body === "") return { kind: "none" };
  if (body === "*") return { kind: "whole" };
  const field = fieldOf(input, body);
  return { kind: "field", field };
}

function fieldOf(message: DescMessage, name: string): DescField {
  const field = message.fields.find((candidate) => candidate.name === name);
  if (field === undefined) throw new Error(`${message.typeName} has no field ${name}`);
  return field;
}

function pathField(input: DescMessage, path: string): DescField[] {
  const chain: DescField[] = [];
  let message: DescMessage | undefined = input;
  for (const name of path.split(".")) {
    if (message === undefined) throw new Error(`${path} leads through a field that is no message`);
    const field: DescField = fieldOf(message, name);
    chain.push(field);
    message = field.fieldKind === "message" ? field.message : undefined;
  }
  const last = chain.at(-1);
  if (last?.fieldKind !== "scalar" && last?.fieldKind !== "enum")
    throw new Error(`${path} can't stand in a path: it must be one scalar or enum`);
  return chain;
}
