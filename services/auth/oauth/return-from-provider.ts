import { create } from "@bufbuild/protobuf";
import { AuthService, OauthReturnSchema, type ReturnFromProviderRequest } from "#contracts/polis/auth/v1/auth_pb.ts";
import { query } from "#platform/reads/query.ts";
import { reject } from "#platform/rejection.ts";
import { findFlow } from "./flow.ts";

/** As the contract bounds them where they come in the query. */
const bounds = { state: 200, code: 4_096, iss: 1_000, error: 200, deviceId: 1_000 } as const;
type Part = keyof typeof bounds;
const parts = Object.keys(bounds) as Part[];
const parameterOf = (part: Part): string => (part === "deviceId" ? "device_id" : part);

/** Sends the browser that comes from a provider on to the client's page, with what came. */
export const returnFromProvider = query(AuthService.method.returnFromProvider, async (request, { kv }) => {
  const came = partsOf(request);
  if (came === undefined || came.state === "") return reject("invalid_flow");
  const begun = await findFlow(kv, came.state);
  // By the way back of one provider another one's answer isn't taken.
  if (begun === undefined || begun.provider !== request.provider) return reject("invalid_flow");
  if (begun.returnTo === "") return create(OauthReturnSchema, came);
  const location = new URL(begun.returnTo);
  for (const part of parts) {
    location.searchParams.delete(parameterOf(part));
    if (came[part] !== "") location.searchParams.set(parameterOf(part), came[part]);
  }
  return create(OauthReturnSchema, { location: location.href });
});

/** What came, in the query or in a form; undefined where that is no form, or has too much in it. */
function partsOf(request: ReturnFromProviderRequest): Readonly<Record<Part, string>> | undefined {
  if (request.form === undefined) return request;
  if (!/^application\/x-www-form-urlencoded\s*(;|$)/i.test(request.form.contentType)) return undefined;
  const form = new URLSearchParams(Buffer.from(request.form.data).toString());
  const came = Object.fromEntries(parts.map((part) => [part, form.get(parameterOf(part)) ?? ""])) as Record<Part, string>;
  return parts.every((part) => came[part].length <= bounds[part]) ? came : undefined;
}
