/**
 * Who calls: a user, a service for itself, or a service on behalf of a user. Within a process it is handed on as it is;
 * between processes it travels as a signed, short-lived token (caller-token.ts), and nothing else names a caller there.
 */
export type Caller = UserCaller | ServiceCaller | NobodyCaller;

export type UserCaller = {
  readonly kind: "user";
  readonly userId: string;
  readonly roles: readonly string[];
  readonly scopes: readonly string[];
  readonly secondFactor: boolean;
  /** The session whose token the user came with; undefined where it was none of ours. */
  readonly sessionId?: string | undefined;
  /** The key by which a program speaks for the user: it may do what its scopes name, and nothing sensitive. */
  readonly apiKeyId?: string | undefined;
};

export type ServiceCaller = {
  readonly kind: "service";
  readonly service: string;
  /** For whom it acts, where it acts for somebody. */
  readonly user: UserCaller | undefined;
};

/** No token: may call what is public. */
export type NobodyCaller = { readonly kind: "nobody" };

export const nobody: NobodyCaller = Object.freeze({ kind: "nobody" });

/** Every user has the role `user`. An id is the same user's however it is written, so it is kept in lower case. */
export const userCaller = (
  userId: string,
  more: {
    roles?: readonly string[];
    scopes?: readonly string[];
    secondFactor?: boolean;
    sessionId?: string | undefined;
    apiKeyId?: string | undefined;
  } = {},
): UserCaller => ({
  kind: "user",
  userId: userId.toLowerCase(),
  roles: ["user", ...(more.roles ?? []).filter((role) => role !== "user")],
  scopes: more.scopes ?? [],
  secondFactor: more.secondFactor ?? false,
  ...(more.sessionId === undefined ? {} : { sessionId: more.sessionId }),
  ...(more.apiKeyId === undefined ? {} : { apiKeyId: more.apiKeyId }),
});

/** The service as it acts for whoever called it. */
export const serviceCaller = (service: string, onBehalfOf: Caller = nobody): ServiceCaller => ({
  kind: "service",
  service,
  user: onBehalfOf.kind === "user" ? onBehalfOf : onBehalfOf.kind === "service" ? onBehalfOf.user : undefined,
});

/** The user who calls or for whom is called; undefined for a service on its own and for nobody. */
export const callingUser = (caller: Caller): UserCaller | undefined =>
  caller.kind === "user" ? caller : caller.kind === "service" ? caller.user : undefined;

/** A short, stable name for logs, idempotency and event headers: `user:…`, `service:payments`, `service:payments/user:…`. */
export const callerName = (caller: Caller): string => {
  if (caller.kind === "user") return `user:${caller.userId}`;
  if (caller.kind === "nobody") return "nobody";
  return caller.user === undefined ? `service:${caller.service}` : `service:${caller.service}/user:${caller.user.userId}`;
};

/** The user who calls or for whom is called; that there is one, the contract's access has made sure of. */
export function requireUser(caller: Caller): UserCaller {
  const user = callingUser(caller);
  if (user === undefined) throw new Error(`${callerName(caller)} calls for no user; the method's access must demand one`);
  return user;
}
