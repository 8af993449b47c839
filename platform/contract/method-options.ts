import { type DescField, type DescMethod, type DescService, getOption, hasOption, ScalarType } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  type Access,
  type Cache,
  Limit_PerSchema,
  type Method,
  Method_Idempotency,
  Method_IdempotencySchema,
  method as methodOption,
  Rejection_StatusSchema,
} from "#contracts/polis/options/v1/options_pb.ts";
import type { Status } from "#platform/rpc/call-error.ts";

/** A method's options, resolved: what `polis.options.v1.method` says, with its defaults. */
export type MethodOptions = {
  readonly httpStatus: number;
  readonly idempotency: "READ" | "KEYED" | "BUSINESS_ID" | "NONE";
  readonly rejections: ReadonlyMap<string, { readonly status: Status; readonly text: string }>;
  readonly access: Access;
  readonly cache: Cache | undefined;
  readonly sensitive: boolean;
  readonly limits: readonly MethodLimit[];
  /** The field of the answer with the URL to which a client is sent. */
  readonly redirect: DescField | undefined;
  readonly ignoresUnknownParameters: boolean;
};

/** How often a method may be called over HTTP. */
export type MethodLimit = { readonly per: "ADDRESS" | "CALLER" | "ALL"; readonly requests: number; readonly windowMs: number };

const LIMIT_REQUESTS_MAX = 1_000_000_000;
const LIMIT_WINDOW_MS_MAX = 31 * 24 * 3_600_000;

const resolved = new WeakMap<DescMethod, MethodOptions>();

/** Reads a method's options; throws, naming the method, where the contract leaves out what has no default. */
export function methodOptions(method: DescMethod): MethodOptions {
  const known = resolved.get(method);
  if (known !== undefined) return known;
  const options = resolve(method);
  resolved.set(method, options);
  return options;
}

/** The path of the field of a request by which a method's cached answers are forgotten; undefined where they are all together. */
export const cacheGroup = (method: DescMethod): string | undefined => methodOptions(method).cache?.group || undefined;

/** `polis.orders.v1.OrdersService/CreateOrder`: a method's full name, as gRPC has it. */
export const methodName = (method: DescMethod): string => `${method.parent.typeName}/${method.name}`;

/** `orders`: a service's short name, from its package `polis.orders.v1`. */
export function serviceName(service: DescService): string {
  const match = /^polis\.([a-z][a-z0-9]*)\.v\d+$/.exec(service.file.proto.package);
  if (match?.[1] === undefined) throw new Error(`${service.typeName}: its package must be polis.<service>.v<number>`);
  return match[1];
}

function resolve(method: DescMethod): MethodOptions {
  const name = methodName(method);
  if (!hasOption(method, methodOption)) throw new Error(`${name}: option (polis.options.v1.method) is missing`);
  const said: Method = getOption(method, methodOption);
  if (said.access === undefined) throw new Error(`${name}: \`access\` is missing; say who may call`);
  const { access } = said;
  if (!access.public && access.roles.length + access.services.length + access.scopes.length === 0)
    throw new Error(`${name}: \`access\` lets nobody in; name roles, services or scopes, or say public`);
  if (said.idempotency === Method_Idempotency.UNSPECIFIED) throw new Error(`${name}: \`idempotency\` is missing`);
  return {
    httpStatus: said.status === 0 ? 200 : said.status,
    idempotency: Method_IdempotencySchema.value[said.idempotency]?.name as MethodOptions["idempotency"],
    rejections: new Map(
      said.errors.map(({ code, status, text }) => [code, { status: Rejection_StatusSchema.value[status]?.name as Status, text }]),
    ),
    access,
    cache: said.cache,
    sensitive: said.sensitive,
    limits: limitsOf(name, said),
    redirect: said.redirect === "" ? undefined : redirectOf(method, said.redirect),
    ignoresUnknownParameters: said.ignoresUnknownParameters,
  };
}

function redirectOf(method: DescMethod, name: string): DescField {
  const field = method.output.fields.find((candidate) => candidate.name === name);
  if (method.methodKind !== "unary" || field?.fieldKind !== "scalar" || field.scalar !== ScalarType.STRING)
    throw new Error(`${methodName(method)}: \`redirect\` is ${name}; it must be a text of the one answer`);
  return field;
}

function limitsOf(name: string, { limits }: Method): MethodLimit[] {
  const known = new Set<string>();
  return limits.map(({ per: number, requests, window }) => {
    const per = Limit_PerSchema.value[number]?.name;
    if (per === undefined || per === "UNSPECIFIED") throw new Error(`${name}: a limit says for whom: \`per\` ADDRESS, CALLER or ALL`);
    if (requests < 1 || requests > LIMIT_REQUESTS_MAX)
      throw new Error(`${name}: its limit per ${per} is of ${requests} requests; it must be of 1 to ${LIMIT_REQUESTS_MAX}`);
    const windowMs = window === undefined ? 0 : durationMs(window);
    if (!Number.isSafeInteger(windowMs) || windowMs < 1_000 || windowMs > LIMIT_WINDOW_MS_MAX)
      throw new Error(`${name}: its limit per ${per} has a \`window\` of ${windowMs / 1000} s; it must be of 1 s to 31 days`);
    const key = `${per} ${windowMs}`;
    if (known.has(key)) throw new Error(`${name}: two limits per ${per} have the same \`window\``);
    known.add(key);
    return { per: per as MethodLimit["per"], requests, windowMs };
  });
}
