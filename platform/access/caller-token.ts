import { hash } from "node:crypto";
import { errors, type JWTPayload, jwtVerify, SignJWT } from "jose";
import { type Caller, type ServiceCaller, serviceCaller, type UserCaller } from "#platform/access/caller.ts";
import type { Secrets } from "#platform/access/secrets.ts";
import { type Clock, systemClock } from "#platform/clock.ts";
import { CallError } from "#platform/rpc/call-error.ts";

// What names a caller between processes: a JWT (HS256) under a key that every process of the deployment derives from its
// secret. `sub` is `user:<id>` or `service:<name>`; where a service acts for a user, `sub` is the user and `act.sub` the
// service (RFC 8693).

const ISSUER = "polis";
const TYPE = "polis-caller+jwt";
const LIFE_MS_DEFAULT = 60_000;
/** What the clocks of two machines may differ by. */
const SKEW_S = 5;
const TOKEN_LENGTH_MAX = 8 * 1024;
const CACHED_MAX = 10_000;
/** The code of the error that says that a token isn't good; where it was ours, who runs us is to blame. */
export const TOKEN_REFUSED = "caller_token_refused";

export type CallerTokens = {
  /** A token for a user or a service; nobody has none. The same one for half of its life. */
  sign(caller: Caller): Promise<string>;
  /** Throws UNAUTHENTICATED `caller_token_refused` for a token that isn't ours, was changed, or is over. */
  verify(token: string): Promise<Caller>;
};

/** The current secret signs, each verifies, so that it can be changed without a stop. */
export function callerTokens(options: { readonly secrets: Secrets; readonly clock?: Clock; readonly lifeMs?: number }): CallerTokens {
  const { clock = systemClock, lifeMs = LIFE_MS_DEFAULT } = options;
  const [current, ...others] = options.secrets.keys("polis caller token v1");
  const signing = keyOf(current);
  const keys = [signing, ...others.map(keyOf)];
  const signed = new Map<string, Signed>();
  /** The same by the caller itself: most callers are asked for again and again. */
  const signedFor = new WeakMap<Caller, Signed>();
  const verified = new Map<string, { readonly caller: Caller; readonly expiresMs: number }>();
  return {
    sign(caller) {
      const nowMs = clock();
      const own = signedFor.get(caller);
      if (own !== undefined && nowMs < own.untilMs) return own.token;
      const name = JSON.stringify(claimsOf(caller));
      const known = signed.get(name);
      if (known !== undefined && nowMs < known.untilMs) {
        signedFor.set(caller, known);
        return known.token;
      }
      const token = new SignJWT(claimsOf(caller))
        .setProtectedHeader({ alg: "HS256", typ: TYPE, kid: signing.id })
        .setIssuer(ISSUER)
        .setIssuedAt(new Date(nowMs))
        .setExpirationTime(new Date(nowMs + lifeMs))
        .sign(signing.bytes);
      const fresh = { token, untilMs: nowMs + lifeMs / 2 };
      remember(signed, name, fresh);
      signedFor.set(caller, fresh);
      return token;
    },
    async verify(token) {
      const nowMs = clock();
      const known = verified.get(token);
      if (known !== undefined && nowMs < known.expiresMs) return known.caller;
      const payload = await verifiedPayload(token, keys, nowMs);
      const caller = callerOf(payload);
      remember(verified, token, { caller, expiresMs: ((payload.exp ?? 0) + SKEW_S) * 1000 });
      return caller;
    },
  };
}

type Signed = { readonly token: Promise<string>; readonly untilMs: number };

type Key = { readonly id: string; readonly bytes: Uint8Array };

const keyOf = (bytes: Uint8Array): Key => ({ id: hash("sha256", bytes, "hex").slice(0, 8), bytes });

/** Bounded: the oldest entry goes first. */
function remember<V>(cache: Map<string, V>, name: string, value: V): void {
  cache.delete(name);
  if (cache.size >= CACHED_MAX)
    for (const oldest of cache.keys()) {
      cache.delete(oldest);
      break;
    }
  cache.set(name, value);
}

async function verifiedPayload(token: string, keys: readonly Key[], nowMs: number): Promise<JWTPayload> {
  if (token.length > TOKEN_LENGTH_MAX) throw refused("The caller token is too long.");
  try {
    const { payload } = await jwtVerify(
      token,
      ({ kid }) => {
        const key = keys.find(({ id }) => id === kid);
        if (key === undefined) throw new errors.JWKSNoMatchingKey();
        return key.bytes;
      },
      {
        algorithms: ["HS256"],
        typ: TYPE,
        issuer: ISSUER,
        requiredClaims: ["sub", "exp"],
        currentDate: new Date(nowMs),
        clockTolerance: SKEW_S,
      },
    );
    return payload;
  } catch (error) {
    throw refused(error instanceof errors.JWTExpired ? "The caller token has expired." : "The caller token is not valid.", error);
  }
}

const refused = (message: string, cause?: unknown): CallError => new CallError("UNAUTHENTICATED", TOKEN_REFUSED, message, { cause });

function claimsOf(caller: Caller): JWTPayload {
  if (caller.kind === "nobody") throw new Error("nobody has no caller token");
  const user = caller.kind === "user" ? caller : caller.user;
  const service = caller.kind === "service" ? `service:${caller.service}` : undefined;
  if (user === undefined) return { sub: service as string };
  return {
    sub: `user:${user.userId}`,
    roles: user.roles,
    scopes: user.scopes,
    second_factor: user.secondFactor,
    ...(user.sessionId === undefined ? {} : { sid: user.sessionId }),
    ...(user.apiKeyId === undefined ? {} : { key: user.apiKeyId }),
    ...(service === undefined ? {} : { act: { sub: service } }),
  };
}

/** The caller that a verified token names; frozen, for calls share it. */
function callerOf(payload: JWTPayload): Caller {
  const [kind, name] = splitSubject(payload.sub);
  if (kind === "service") return Object.freeze<ServiceCaller>({ kind, service: name, user: undefined });
  const user = Object.freeze<UserCaller>({
    kind: "user",
    // Whoever signed it: another case would be another owner of keys and accounts.
    userId: name.toLowerCase(),
    roles: Object.freeze(texts(payload.roles)),
    scopes: Object.freeze(texts(payload.scopes)),
    secondFactor: payload.second_factor === true,
    ...(typeof payload.sid === "string" ? { sessionId: payload.sid } : {}),
    ...(typeof payload.key === "string" ? { apiKeyId: payload.key } : {}),
  });
  if (payload.act === undefined) return user;
  const [actorKind, actor] = splitSubject((payload.act as { sub?: unknown } | null)?.sub);
  if (actorKind !== "service") throw refused("The caller token is not valid.");
  return Object.freeze(serviceCaller(actor, user));
}

function splitSubject(subject: unknown): ["user" | "service", string] {
  const match = typeof subject === "string" ? /^(user|service):([\x21-\x7e]{1,255})$/.exec(subject) : null;
  if (match === null) throw refused("The caller token is not valid.");
  return [match[1] as "user" | "service", match[2] as string];
}

const texts = (claim: unknown): string[] => (Array.isArray(claim) ? claim.filter((item) => typeof item === "string") : []);
