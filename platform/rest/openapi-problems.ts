import { STATUS_CODES } from "node:http";
import type { Identity } from "#platform/rest/identity.ts";
import type { Json } from "#platform/rest/openapi-schemas.ts";
import { edgeProblems, overloadProblem, PROBLEM_TYPE } from "#platform/rest/problem.ts";
import type { Binding } from "#platform/rest/routes.ts";
import { statuses } from "#platform/rpc/call-error.ts";

export const problemSchema: Json = {
  type: "object",
  description: "What went wrong (RFC 9457). `code` is stable and made to switch on; `errors` names the fields at fault.",
  properties: {
    type: { type: "string", format: "uri-reference" },
    title: { type: "string" },
    status: { type: "integer", format: "int32" },
    detail: { type: "string", description: "For a person." },
    code: { type: "string", description: "Stable, snake_case." },
    requestId: { type: "string", description: "Names the request in the logs; also in X-Request-Id." },
    errors: {
      type: "array",
      items: {
        type: "object",
        properties: {
          field: { type: "string", description: "As the client wrote it.", examples: ["legs[0].amount"] },
          rule: { type: "string", description: "Stable name of the rule.", examples: ["int64.gt"] },
          message: { type: "string", description: "For a person." },
        },
        required: ["field", "rule", "message"],
      },
    },
  },
  required: ["type", "title", "status", "detail", "code", "requestId", "errors"],
};

/** Of every answer that a limit has counted. */
export const quotaHeaders: Json = {
  "RateLimit-Policy": {
    description: "The limits that the request was counted by: `q` requests in any `w` seconds (draft-ietf-httpapi-ratelimit-headers).",
    schema: { type: "string", examples: ['"address";q=6000;w=60, "caller";q=3000;w=60'] },
  },
  RateLimit: {
    description: "Of these, the one with the least left: `r` requests for the next `t` seconds.",
    schema: { type: "string", examples: ['"caller";r=2987;t=60'] },
  },
};

const retryAfter: Json = { "Retry-After": { description: "Seconds to wait.", schema: { type: "integer" } } };

type Cause = { readonly code: string; readonly text: string };

/**
 * The answers of a method that say no, by status: its declared rejections and what may happen to any request of its kind.
 * Responses without a rejection of the method's own are shared, under components/responses.
 */
export function problemResponses(binding: Binding, { refusals }: Pick<Identity, "refusals">, shared: Record<string, Json>): Json {
  const byStatus = new Map<number, Cause[]>();
  const add = (status: number, cause: Cause) => byStatus.set(status, [...(byStatus.get(status) ?? []), cause]);
  const own = new Set<number>();
  for (const [code, { status, text }] of binding.options.rejections) {
    own.add(statuses[status].http);
    add(statuses[status].http, { code, text });
  }
  for (const code of generalCodes(binding)) add(edgeProblems[code].status, { code, text: edgeProblems[code].text });
  add(overloadProblem.status, overloadProblem);
  if (!binding.options.access.public) for (const [code, text] of Object.entries(refusals)) add(401, { code, text });
  return Object.fromEntries(
    [...byStatus]
      .sort(([a], [b]) => a - b)
      .map(([status, causes]) => {
        const response = problemResponse(status, causes);
        if (own.has(status)) return [String(status), response];
        const name = causes.map(({ code }) => code).join(".");
        shared[name] = response;
        return [String(status), { $ref: `#/components/responses/${name}` }];
      }),
  );
}

function generalCodes({ options, body, rawRequest, pathFields }: Binding): (keyof typeof edgeProblems)[] {
  const { access, idempotency } = options;
  return [
    "validation_failed",
    ...(body.kind !== "none" && !rawRequest ? (["invalid_json"] as const) : []),
    ...(idempotency === "KEYED" ? (["invalid_idempotency_key", "idempotency_key_reused"] as const) : []),
    ...(access.public ? [] : (["unauthenticated", "forbidden"] as const)),
    "address_blocked",
    // What the address names may not be there, or be another's.
    ...(access.owner === "" && pathFields.length === 0 ? [] : (["not_found"] as const)),
    ...(body.kind === "none" ? [] : (["body_too_large"] as const)),
    ...(body.kind !== "none" && !rawRequest ? (["unsupported_media_type"] as const) : []),
    "rate_limited",
    "overloaded",
    "internal",
    "unavailable",
    "deadline_exceeded",
  ];
}

function problemResponse(status: number, causes: readonly Cause[]): Json {
  const title = STATUS_CODES[status] ?? "Error";
  const headers = { ...(status === 429 ? quotaHeaders : {}), ...(status === 429 || status === 503 ? retryAfter : {}) };
  const examples = causes.map(({ code, text }) => {
    const errors = code === "validation_failed" ? [{ field: "amount", rule: "int64.gt", message: "must be greater than 0" }] : [];
    const value = { type: "about:blank", title, status, detail: text, code, requestId: "0190b6a0-7c1e-7000-8000-3d6f1c2b4a59", errors };
    return [code, { summary: text, value }];
  });
  return {
    description: causes.map(({ code, text }) => `- \`${code}\`: ${text}`).join("\n"),
    ...(Object.keys(headers).length > 0 ? { headers } : {}),
    content: {
      [PROBLEM_TYPE]: {
        schema: {
          allOf: [
            { $ref: "#/components/schemas/Problem" },
            { type: "object", properties: { code: { type: "string", enum: causes.map(({ code }) => code) } } },
          ],
        },
        examples: Object.fromEntries(examples),
      },
    },
  };
}
