/**
 * The path of a google.api.http rule, parsed:
 *
 *     Template = "/" Segments [ ":" verb ] ;  Segments = Segment { "/" Segment } ;
 *     Segment  = "*" | "**" | literal | "{" field path [ "=" Segments ] "}" ;
 *
 * `*` is one segment, `**` is the rest of the path (here: at least one segment) and stands last.
 */
export type PathTemplate = {
  /** As the contract has it. */
  readonly text: string;
  readonly segments: readonly Segment[];
  readonly variables: readonly Variable[];
  /** What follows the last segment behind a colon. A verb behind a literal is part of that literal. */
  readonly verb: string | undefined;
};

export type Segment = { readonly kind: "literal"; readonly text: string } | { readonly kind: "one" } | { readonly kind: "rest" };

export type Variable = {
  /** `thing.id`, in proto names. */
  readonly fieldPath: string;
  /** The segments that it covers; `end` is exclusive and undefined where it takes the rest. */
  readonly start: number;
  readonly end: number | undefined;
};

/** Parses a template; throws an Error that says what is wrong with it. */
export function parsePathTemplate(text: string): PathTemplate {
  const fault = (what: string) => new Error(`path ${JSON.stringify(text)}: ${what}`);
  if (!text.startsWith("/")) throw fault("must begin with /");
  const { path, verb } = splitVerb(text);
  const segments: Segment[] = [];
  const variables: Variable[] = [];
  for (const part of splitSegments(path.slice(1))) {
    if (!part.startsWith("{")) {
      segments.push(parseSegment(part, fault));
      continue;
    }
    const match = /^\{([a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)*)(?:=([^{}]+))?\}$/i.exec(part);
    if (match?.[1] === undefined) throw fault(`can't read ${part}`);
    const covered = (match[2] ?? "*").split("/").map((inner) => parseSegment(inner, fault));
    const start = segments.length;
    segments.push(...covered);
    const takesRest = covered.at(-1)?.kind === "rest";
    variables.push({ fieldPath: match[1], start, end: takesRest ? undefined : segments.length });
  }
  if (segments.some((segment, index) => segment.kind === "rest" && index < segments.length - 1)) throw fault("** must stand last");
  const names = variables.map((variable) => variable.fieldPath);
  if (new Set(names).size < names.length) throw fault("a variable occurs twice");
  const last = segments.at(-1);
  if (verb === undefined || last?.kind !== "literal") return { text, segments, variables, verb };
  segments[segments.length - 1] = { kind: "literal", text: `${last.text}:${verb}` };
  return { text, segments, variables, verb: undefined };
}

function parseSegment(text: string, fault: (what: string) => Error): Segment {
  if (text === "*") return { kind: "one" };
  if (text === "**") return { kind: "rest" };
  if (!/^[A-Za-z0-9._~!$&'()+,;=@-]+$/.test(text)) throw fault(`can't read ${JSON.stringify(text)} as a segment`);
  return { kind: "literal", text };
}

/** The verb's colon is the one behind the last slash and outside of braces. */
function splitVerb(text: string): { path: string; verb: string | undefined } {
  const at = text.lastIndexOf(":");
  if (at === -1 || text.indexOf("/", at) !== -1 || text.indexOf("}", at) !== -1) return { path: text, verb: undefined };
  return { path: text.slice(0, at), verb: text.slice(at + 1) };
}

/** Slashes within braces don't part segments. */
function splitSegments(path: string): string[] {
  const parts = [""];
  let inBraces = false;
  for (const character of path) {
    if (character === "/" && !inBraces) parts.push("");
    else parts.push((parts.pop() ?? "") + character);
    if (character === "{") inBraces = true;
    if (character === "}") inBraces = false;
  }
  return parts;
}

/** The same for two templates that match the same paths: `/things/{id}:cancel` and `/things/{thing_id}:cancel`. */
export const templateShape = (template: PathTemplate): string =>
  `${routerPath(template)}${template.verb === undefined ? "" : ` :${template.verb}`}`;

/** The template as Fastify's router reads it, without its verb; variables lose their names, since values are cut from the raw path. */
export const routerPath = ({ segments }: PathTemplate): string =>
  segments
    .map((segment, index) => {
      if (segment.kind === "literal") return `/${segment.text.replaceAll(":", "::")}`;
      return segment.kind === "one" ? `/:p${index}` : "/*";
    })
    .join("");

/**
 * Matches a raw path (still percent-encoded, without its query); gives the variables' values in their order, decoded, or
 * undefined. A value of one segment is decoded whole; one of several keeps `%2F`, so that its slashes stay told apart.
 * Throws URIError where a percent-encoding is broken.
 */
export function matchPath(template: PathTemplate, rawPath: string): string[] | undefined {
  let path = rawPath;
  if (template.verb !== undefined) {
    if (!path.endsWith(`:${template.verb}`)) return undefined;
    path = path.slice(0, -(template.verb.length + 1));
  }
  const parts = path.slice(1).split("/");
  const { segments } = template;
  const takesRest = segments.at(-1)?.kind === "rest";
  if (takesRest ? parts.length < segments.length : parts.length !== segments.length) return undefined;
  for (let i = 0; i < segments.length; i++) {
    const segment = segments[i];
    const part = parts[i] ?? "";
    if (segment?.kind === "literal" ? part !== segment.text && decodeURIComponent(part) !== segment.text : part === "") return undefined;
  }
  return template.variables.map(({ start, end }) => {
    if (end === start + 1) return decodeURIComponent(parts[start] ?? "");
    return parts
      .slice(start, end)
      .map((part) => decodeKeepingSlash(part))
      .join("/");
  });
}

const decodeKeepingSlash = (part: string): string =>
  part.includes("%")
    ? part
        .split(/(%2f)/i)
        .map((piece, index) => (index % 2 === 1 ? piece : decodeURIComponent(piece)))
        .join("")
    : part;
