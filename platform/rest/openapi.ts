import type { DescField, DescMessage, DescService } from "@bufbuild/protobuf";
import type { MethodLimit } from "#platform/contract/method-options.ts";
import type { Identity } from "#platform/rest/identity.ts";
import { Examples } from "#platform/rest/openapi-examples.ts";
import { problemResponses, problemSchema, quotaHeaders } from "#platform/rest/openapi-problems.ts";
import { type Json, Schemas, shortName } from "#platform/rest/openapi-schemas.ts";
import { type Comments, readComments } from "#platform/rest/proto-comments.ts";
import { hasTextForm, isQueryable } from "#platform/rest/query.ts";
import type { Binding } from "#platform/rest/routes.ts";

export type DocumentInput = {
  readonly bindings: readonly Binding[];
  readonly services: readonly DescService[];
  readonly info: { readonly title: string; readonly version: string; readonly description?: string };
  readonly identity: Pick<Identity, "securitySchemes" | "refusals">;
};

/** Methods of HTTP that OpenAPI 3.1 knows. */
const KNOWN = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
/** Nested fields of a query are told so deep; deeper ones work as well. */
const QUERY_DEPTH = 3;

type Work = DocumentInput & {
  readonly schemas: Schemas;
  readonly examples: Examples;
  readonly comments: Comments;
  readonly operationIds: Map<string, number>;
  readonly responses: Record<string, Json>;
};

/** The OpenAPI 3.1 document of the services: addresses, texts, schemas, rules and errors, all from their contracts. */
export function openApi(input: DocumentInput): Json {
  const comments = readComments();
  const schemas = new Schemas(
    comments,
    input.bindings.map(({ method }) => method.output),
  );
  schemas.components.Problem = problemSchema;
  const examples = new Examples(input.bindings.map(({ method }) => method.input));
  const work: Work = { ...input, comments, schemas, examples, operationIds: new Map(), responses: {} };
  const paths: Record<string, Json> = {};
  const shapes = new Map<string, string>();
  for (const binding of input.bindings) {
    const { path, names } = documentPath(binding);
    // Two paths that differ in the names of their variables alone are one path: the first one's names serve.
    const shape = path.replaceAll(/\{[^}]*\}/g, "{}");
    const key = shapes.get(shape) ?? path;
    shapes.set(shape, key);
    const keyNames = [...key.matchAll(/\{([^}]*)\}/g)].map((match) => match[1] ?? "");
    paths[key] ??= {};
    const item = paths[key];
    for (const method of binding.httpMethod === "*" ? ["get", "put", "post", "delete", "patch"] : [binding.httpMethod.toLowerCase()])
      item[KNOWN.includes(method) ? method : `x-${method}`] = operation(
        work,
        binding,
        names.map((name, index) => ({ ...name, name: keyNames[index] ?? name.name })),
      );
  }
  return {
    openapi: "3.1.0",
    info: input.info,
    servers: [{ url: "/" }],
    tags: input.services.map((service) => ({ name: tag(service), ...text(comments.get(service.typeName)) })),
    paths,
    components: {
      schemas: sorted(schemas.components),
      responses: work.responses,
      parameters: { IdempotencyKey: idempotencyKey },
      securitySchemes: input.identity.securitySchemes,
    },
  };
}

const idempotencyKey = {
  name: "Idempotency-Key",
  in: "header",
  required: false,
  description:
    "Names this command: a repeat under the same key gets the first answer and changes nothing. Without one, a retry may do the work twice.",
  schema: { type: "string", minLength: 1, maxLength: 255, pattern: "^[\\x21-\\x7e]+$" },
};

const tag = (service: DescService): string => service.name.replace(/Service$/, "");
const text = (comment: string | undefined): Json => (comment === undefined ? {} : { description: comment });
const sorted = (object: Record<string, Json>): Json => Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)));

type PathName = { readonly name: string; readonly field: DescField; readonly isRest: boolean };

/** `{name=shelves/*}` as OpenAPI has it, whose variables are one segment each: `shelves/{name}`. */
function documentPath({ template, pathFields }: Binding): { path: string; names: PathName[] } {
  const names: PathName[] = [];
  const parts = template.segments.map((segment, index) => {
    if (segment.kind === "literal") return segment.text;
    const at = template.variables.findIndex(({ start, end }) => index >= start && (end === undefined || index < end));
    const variable = template.variables[at];
    const field = pathFields[at]?.at(-1);
    if (variable === undefined || field === undefined) return "{segment}";
    const before = names.filter(({ name }) => name === variable.fieldPath || name.startsWith(`${variable.fieldPath}_`)).length;
    const name = before === 0 ? variable.fieldPath : `${variable.fieldPath}_${before + 1}`;
    names.push({ name, field, isRest: segment.kind === "rest" });
    return `{${name}}`;
  });
  return { path: `/${parts.join("/")}${template.verb === undefined ? "" : `:${template.verb}`}`, names };
}

function operation(work: Work, binding: Binding, pathNames: readonly PathName[]): Json {
  const { method, options, body } = binding;
  const comment = work.comments.get(`${method.parent.typeName}.${method.name}`) ?? "";
  const description = [...(comment === "" ? [] : [comment]), ...options.limits.map(limitText)].join("\n\n");
  const count = (work.operationIds.get(method.localName) ?? 0) + 1;
  work.operationIds.set(method.localName, count);
  const parameters = [
    ...pathNames.map(({ name, field, isRest }) => {
      const { description: about, ...schema } = work.schemas.field(field, "in");
      return {
        name,
        in: "path",
        required: true,
        schema,
        ...text(isRest ? "The rest of the path; it may hold slashes." : (about as string | undefined)),
      };
    }),
    ...(body.kind === "whole" ? [] : queryParameters(work, method.input, new Set([...bound(binding)]), "", 1)),
    ...(options.idempotency === "KEYED" ? [{ $ref: "#/components/parameters/IdempotencyKey" }] : []),
  ];
  return {
    operationId: count === 1 ? method.localName : `${method.localName}_${count}`,
    tags: [tag(method.parent)],
    summary: comment.split(/(?<=[.:])\s|\n/)[0]?.replace(/[.:]$/, "") ?? method.name,
    ...(description === "" ? {} : { description }),
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(body.kind === "none" ? {} : { requestBody: requestBody(work, binding) }),
    responses: {
      [String(options.httpStatus)]: success(work, binding),
      ...redirection(binding),
      ...problemResponses(binding, work.identity, work.responses),
    },
    ...(options.access.public
      ? { security: [] }
      : { security: Object.keys(work.identity.securitySchemes).map((name) => ({ [name]: [] })) }),
  };
}

const ofWhom = { ADDRESS: "of an address", CALLER: "of a caller", ALL: "of all callers together" };
const limitText = ({ per, requests, windowMs }: MethodLimit): string =>
  `At most ${requests} requests ${ofWhom[per]} in any ${windowMs / 1000} seconds.`;

const bound = ({ pathFields, body }: Binding): DescField[] => [
  ...pathFields.map((chain) => chain.at(-1) as DescField),
  ...(body.kind === "field" ? [body.field] : []),
];

function queryParameters(work: Work, message: DescMessage, without: ReadonlySet<DescField>, prefix: string, depth: number): Json[] {
  return message.fields.flatMap((field): Json[] => {
    if (without.has(field)) return [];
    const name = `${prefix}${field.name}`;
    if (!isQueryable(field)) {
      const goesOn = field.fieldKind === "message" && !hasTextForm(field.message) && depth < QUERY_DEPTH;
      return goesOn ? queryParameters(work, field.message, without, `${name}.`, depth + 1) : [];
    }
    const { description, ...schema } = work.schemas.field(field, "in");
    return [
      {
        name,
        in: "query",
        required: false,
        schema,
        ...(field.fieldKind === "list" ? { style: "form", explode: true } : {}),
        ...text(description as string | undefined),
      },
    ];
  });
}

function requestBody(work: Work, binding: Binding): Json {
  const { method, body, pathFields, rawRequest } = binding;
  if (rawRequest) return { required: true, content: { "*/*": {} } };
  const inPath = new Set(pathFields.map((chain) => chain.at(-1) as DescField));
  const message = body.kind === "field" ? (body.field.message ?? method.input) : method.input;
  const hidesFields = message.fields.some((field) => inPath.has(field));
  const isStream = method.methodKind === "client_streaming";
  const content = (schema: Json, example: unknown) => ({
    required: true,
    content: { [isStream ? "application/x-ndjson" : "application/json"]: { schema, ...shown(example) } },
  });
  if (body.kind === "field" && body.field.fieldKind !== "message")
    return content(work.schemas.field(body.field, "in"), work.examples.field(body.field, "in"));
  const schema = hidesFields ? work.schemas.object(message, "in", inPath) : work.schemas.message(message, "in");
  return content(schema, work.examples.message(message, "in", inPath));
}

function success(work: Work, binding: Binding): Json {
  const { method, options, responseBody, rawResponse } = binding;
  const description = work.comments.get(method.output.typeName)?.split("\n")[0] ?? shortName(method.output.typeName);
  const headers = { "X-Request-Id": { description: "Names this request in the logs.", schema: { type: "string" } }, ...quotaHeaders };
  if (options.httpStatus === 204) return { description: "Done.", headers };
  if (rawResponse) return { description: "Bytes, of the type that Content-Type says.", headers, content: { "*/*": {} } };
  const schema = responseBody === undefined ? work.schemas.message(method.output, "out") : work.schemas.field(responseBody, "out");
  const example = responseBody === undefined ? work.examples.message(method.output, "out") : work.examples.field(responseBody, "out");
  if (method.methodKind !== "server_streaming")
    return { description, headers, content: { "application/json": { schema, ...shown(example) } } };
  return {
    description:
      'A message a line, or an event each. An error on the way is the last line, `{"error": problem}`, or the last event, `error`.',
    headers,
    content: {
      "application/x-ndjson": { schema, ...shown(example) },
      "text/event-stream": { schema: { type: "string" }, ...shown(`data: ${JSON.stringify(example)}\n\n`) },
    },
  };
}

const redirection = ({ options: { redirect } }: Binding): Json =>
  redirect === undefined
    ? {}
    : {
        "303": {
          description: `The client is sent to the \`${redirect.jsonName}\`.`,
          headers: { Location: { description: "Where to.", schema: { type: "string", format: "uri-reference" } }, ...quotaHeaders },
        },
      };

const shown = (example: unknown): Json => (example === undefined ? {} : { example });
