import fc, { type Arbitrary } from "fast-check";

/** A node of the document, or of a schema in it: JSON of which this file knows what it looks at. */
// biome-ignore lint/suspicious/noExplicitAny: as it says
export type Node = { readonly [key: string]: any };

/** An operation of an OpenAPI document, with its place. */
export type Operation = { readonly method: string; readonly path: string; readonly operation: Node };

/** A request as it goes out. */
export type FuzzedRequest = {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
};

export const operationsOf = (document: Node): Operation[] =>
  Object.entries<Node>(document.paths).flatMap(([path, item]) =>
    Object.entries<Node>(item).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
  );

/** What `$ref` stands for, once. */
export function resolved(document: Node, node: Node): Node {
  if (typeof node.$ref !== "string") return node;
  return node.$ref
    .slice(2)
    .split("/")
    .reduce((at: Node, part: string) => at[part.replaceAll("~1", "/").replaceAll("~0", "~")], document);
}

const DEPTH_MAX = 5;

/** What no schema allows, and what parsers and databases have stumbled over. */
const junk: Arbitrary<unknown> = fc.oneof(
  fc.constantFrom(
    null,
    true,
    -1,
    0.5,
    Number.POSITIVE_INFINITY,
    2 ** 63,
    -0,
    "",
    " ",
    "\u0000",
    "\ud800",
    "💣".repeat(50),
    "' OR 1=1 --",
    "../../etc/passwd",
  ),
  fc.constantFrom("#{7*7}", "{{7*7}}", "%00", "\r\nX-Injected: 1", "<script>", "9".repeat(400), "a".repeat(5_000), [], {}, [[]], {
    $ref: "#",
  }),
  fc.constant(JSON.parse('{"__proto__": {"polluted": true}, "constructor": {"prototype": {}}}')),
  fc.json({ maxDepth: 3 }).map((text) => JSON.parse(text) as unknown),
  fc.string({ unit: "binary", maxLength: 60 }),
);

/** Values that a schema allows, or nearly: now and then one of them is junk. */
function valuesOf(document: Node, said: Node, oddOf: number, depth = 0): Arbitrary<unknown> {
  const sound = depth > DEPTH_MAX ? fc.constant(undefined) : soundValuesOf(document, resolved(document, said), oddOf, depth);
  return oddOf === 0 ? sound : fc.oneof({ weight: oddOf, arbitrary: sound }, { weight: 1, arbitrary: junk });
}

function soundValuesOf(document: Node, schema: Node, oddOf: number, depth: number): Arbitrary<unknown> {
  const inner = (node: Node): Arbitrary<unknown> => valuesOf(document, node, oddOf, depth + 1);
  const either = schema.oneOf ?? schema.anyOf;
  if (Array.isArray(schema.enum)) return fc.constantFrom(...schema.enum);
  const type = Array.isArray(schema.type) ? schema.type.find((one: string) => one !== "null") : schema.type;
  if (type === "object" || schema.properties !== undefined) return objectsOf(schema, inner);
  if (Array.isArray(either)) return fc.oneof(...either.map(inner));
  if (Array.isArray(schema.allOf)) return inner(schema.allOf[0]);
  switch (type) {
    case "string":
      return stringsOf(schema);
    case "integer":
      return fc.integer({ min: schema.minimum ?? -(2 ** 31), max: schema.maximum ?? 2 ** 31 - 1 });
    case "number":
      return fc.double({ noNaN: true });
    case "boolean":
      return fc.boolean();
    case "array":
      return fc.array(inner(schema.items ?? {}), { minLength: schema.minItems ?? 0, maxLength: Math.min(schema.maxItems ?? 4, 6) });
    default:
      return fc.anything();
  }
}

function objectsOf(
  { properties = {}, required = [], additionalProperties }: Node,
  inner: (node: Node) => Arbitrary<unknown>,
): Arbitrary<unknown> {
  const known = Object.fromEntries(Object.entries<Node>(properties).map(([name, node]) => [name, inner(node)]));
  const record = fc.record(known, { requiredKeys: (required as string[]).filter((name) => name in known) });
  if (typeof additionalProperties !== "object") return record;
  return fc.dictionary(fc.string({ maxLength: 10 }), inner(additionalProperties), { maxKeys: 3 });
}

function stringsOf({ format, pattern, minLength = 0, maxLength = 40 }: Node): Arbitrary<string> {
  if (format === "uuid") return fc.uuid();
  if (format === "email") return fc.emailAddress();
  if (format === "date-time") return fc.date({ noInvalidDate: true }).map((date) => date.toISOString());
  if (typeof pattern === "string") return fc.stringMatching(new RegExp(pattern)).filter((text) => text.length <= 300);
  return fc.string({ unit: "grapheme", minLength, maxLength: Math.min(maxLength, minLength + 60) });
}

/** Requests of an operation: as the document has them, or nearly; from these headers, that say who calls. */
export function requestsOf(
  document: Node,
  { method, path, operation }: Operation,
  identities: Arbitrary<Record<string, string>>,
): Arbitrary<FuzzedRequest> {
  return fc.constantFrom(0, 0, 4, 12).chain((oddOf) => {
    const parameters = (operation.parameters ?? []).map((one: Node) => resolved(document, one)) as Node[];
    const values = fc.tuple(
      ...parameters.map(({ schema, required }) =>
        fc.option(valuesOf(document, schema, oddOf), { freq: required ? 20 : 1, nil: undefined }),
      ),
    );
    const schema = operation.requestBody?.content?.["application/json"]?.schema;
    const bodies = schema === undefined ? fc.constant(undefined) : bodiesOf(document, schema, oddOf);
    return fc.record({ values, body: bodies, identity: identities }).map(({ values: said, body, identity }) => {
      let address = path;
      const query = new URLSearchParams();
      const headers: Record<string, string> = { ...identity };
      for (const [i, { name, in: place }] of parameters.entries()) {
        const text = textOf(said[i]);
        if (place === "path") address = address.replace(`{${name}}`, encodeURIComponent(text ?? "x"));
        else if (text !== undefined && place === "query") query.append(name, text);
        else if (text !== undefined && /^[\x20-\x7e]{1,300}$/.test(text)) headers[name] = text;
      }
      if (body !== undefined) headers["content-type"] = "application/json";
      return { method, path: query.size === 0 ? address : `${address}?${query}`, headers, body };
    });
  });
}

function bodiesOf(document: Node, schema: Node, oddOf: number): Arbitrary<string | undefined> {
  const sound = valuesOf(document, schema, oddOf).map((value) => JSON.stringify(value) ?? "");
  if (oddOf === 0) return sound;
  const broken = fc.oneof(
    fc.constantFrom("", "{", "null", "[]", '{"a":1}{"b":2}', "[".repeat(2_000), '{"a":1e999}'),
    fc.string({ maxLength: 50 }),
  );
  return fc.oneof({ weight: 9, arbitrary: sound }, { weight: 1, arbitrary: broken });
}

const textOf = (value: unknown): string | undefined =>
  value === undefined ? undefined : (typeof value === "string" ? value : (JSON.stringify(value) ?? String(value))).toWellFormed();
