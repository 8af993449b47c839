import { type DescField, type DescMessage, type DescMethod, type Message, ScalarType } from "@bufbuild/protobuf";
import { type Caller, callingUser, type NobodyCaller, type UserCaller } from "#platform/access/caller.ts";
import { methodName, methodOptions, serviceName } from "#platform/contract/method-options.ts";
import { CallError } from "#platform/rpc/call-error.ts";

/** Who may call a method, as its contract says (`Access` in polis/options/v1/options.proto). */
export type AccessRule = {
  /** Throws UNAUTHENTICATED `unauthenticated` for nobody, PERMISSION_DENIED `forbidden` for who may not. */
  admit(caller: Caller): void;
  /** Throws NOT_FOUND `not_found` where the answer belongs to another user than the one who calls or is called for. */
  checkOwner(caller: Caller, answer: Message): void;
};

/** Reads the rule of a method; throws, naming the method, where its `owner` can't be checked. */
export function accessRule(method: DescMethod): AccessRule {
  const { access, idempotency, sensitive } = methodOptions(method);
  const services: ReadonlySet<string> = new Set(access.services);
  const isAllowedUser = (user: UserCaller): boolean =>
    meets(access.roles, user.roles) && meets(access.scopes, user.scopes) && (!access.secondFactor || user.secondFactor);
  const service = serviceName(method.parent);
  const keyScopes = [`${service}:write`, ...(idempotency === "READ" ? [`${service}:read`] : [])];
  /** What is sensitive is for the user alone, with whom no program is to be taken. */
  const isWithinKey = (user: UserCaller): boolean => user.apiKeyId === undefined || (!sensitive && meets(keyScopes, user.scopes));
  // Without a word about users, only the named services get in.
  const forUsers = access.roles.length + access.scopes.length > 0 || access.secondFactor;
  const owner = access.owner === "" ? undefined : ownerField(method);
  if (owner !== undefined && (access.public || idempotency !== "READ" || method.methodKind !== "unary"))
    throw new Error(`${methodName(method)}: \`owner\` is for unary reads that aren't public; a write compares under its lock`);
  return {
    admit(caller) {
      if (access.public) return;
      requireNamed(caller);
      const allowed = caller.kind === "service" ? services.has(caller.service) : forUsers && isAllowedUser(caller) && isWithinKey(caller);
      if (!allowed) throw new CallError("PERMISSION_DENIED", "forbidden", "The caller may not do this.");
    },
    checkOwner(caller, answer) {
      if (owner === undefined) return;
      const user = callingUser(caller);
      // A service for itself is nobody's: it was let in by name.
      if (user === undefined && caller.kind === "service") return;
      if (user === undefined || owner(answer) !== user.userId) throw new CallError("NOT_FOUND", "not_found", "There is no such thing.");
    },
  };
}

/** Throws UNAUTHENTICATED `unauthenticated` for nobody. */
export function requireNamed(caller: Caller): asserts caller is Exclude<Caller, NobodyCaller> {
  if (caller.kind === "nobody") throw new CallError("UNAUTHENTICATED", "unauthenticated", "Say who you are.");
}

/** Any of what is asked for will do; nothing asked for is met by all. */
const meets = (asked: readonly string[], held: readonly string[]): boolean => asked.length === 0 || asked.some((one) => held.includes(one));

/** Reads the field that `owner` names. */
function ownerField(method: DescMethod): (answer: Message) => unknown {
  const path = methodOptions(method).access.owner;
  const fields: DescField[] = [];
  let within: DescMessage | undefined = method.output;
  for (const name of path.split(".")) {
    const field: DescField | undefined = within?.fields.find((candidate) => candidate.name === name);
    if (field === undefined || field.oneof !== undefined || field.fieldKind === "list" || field.fieldKind === "map") {
      throw new Error(`${methodName(method)}: \`owner\`: ${method.output.typeName} has no single field ${path}`);
    }
    fields.push(field);
    within = field.message;
  }
  if (fields.at(-1)?.scalar !== ScalarType.STRING) throw new Error(`${methodName(method)}: \`owner\`: ${path} is not a string`);
  const names = fields.map((field) => field.localName);
  return (answer) => names.reduce<unknown>((held, name) => (held as Record<string, unknown> | undefined)?.[name], answer);
}
