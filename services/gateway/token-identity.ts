import { errors, type JWTPayload, jwtVerify } from "jose";
import { nobody, type UserCaller, userCaller } from "#platform/access/caller.ts";
import type { Clock } from "#platform/clock.ts";
import type { Identity } from "#platform/rest/identity.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { HeardTokens, RevocableToken } from "./heard-tokens.ts";
import type { KnownKeys } from "./known-keys.ts";

/** What our clocks may differ by. */
const SKEW_S = 5;
const TOKEN_LENGTH_MAX = 4_096;
const CACHED_MAX = 20_000;
/** As auth makes them: what has another shape isn't asked for. */
const KEY = /^polis_[A-Za-z0-9_-]{22}_[A-Za-z0-9_-]{43}$/;

type Known = RevocableToken & { readonly caller: UserCaller; readonly expiresMs: number };

/**
 * Users by the access tokens that auth issues, as `Authorization: Bearer …` (RFC 6750, RFC 9068), and programs of theirs by keys, as
 * `X-API-Key`.
 */
export function tokenIdentity(tokens: HeardTokens, keys: KnownKeys, clock: Clock): Identity {
  /** A token is verified once: what it says doesn't change. The oldest goes first. */
  const verified = new Map<string, Promise<Known>>();
  const verify = (token: string): Promise<Known> => {
    const known = verified.get(token);
    if (known !== undefined) return known;
    const verifying = verifyToken(token, tokens, clock);
    if (verified.size >= CACHED_MAX) verified.delete(verified.keys().next().value as string);
    verified.set(token, verifying);
    // One that isn't good may be later: its key may be on its way.
    verifying.catch(() => verified.delete(token));
    return verifying;
  };
  const identify = async (authorization: string, isSensitive: boolean): Promise<UserCaller> => {
    const token = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(authorization)?.[1];
    if (token === undefined || token.length > TOKEN_LENGTH_MAX)
      throw refused("invalid_token", "Authorization must be `Bearer` and an access token.");
    const known = await verify(token);
    if (known.expiresMs + SKEW_S * 1000 <= clock()) throw refused("token_expired", refusals.token_expired);
    if (tokens.isRevoked(known)) throw refused("token_revoked", refusals.token_revoked);
    if (isSensitive && !tokens.isFresh())
      throw new CallError("UNAVAILABLE", "unavailable", "It isn't known now whether the token was revoked; try again later.", {
        retryAfterMs: 1_000,
      });
    return known.caller;
  };
  const identifyKey = async (key: string): Promise<UserCaller> => {
    if (!KEY.test(key)) throw refused("invalid_api_key", refusals.invalid_api_key);
    const known = await keys.find(key);
    if (known.expiresMs <= clock() || tokens.isRevoked(known)) throw refused("invalid_api_key", refusals.invalid_api_key);
    return known.caller;
  };
  return {
    identify({ authorization, "x-api-key": key }, { isSensitive, isPublic }) {
      if (authorization === undefined && key === undefined) return nobody;
      if (authorization !== undefined && key !== undefined) throw refused("invalid_token", "Send a token or a key, not both.");
      const identified = authorization === undefined ? identifyKey(String(key)) : identify(authorization, isSensitive);
      // What is public is for everybody: who refreshes a token that is over may still send it along.
      return isPublic ? identified.catch(() => nobody) : identified;
    },
    challenge: 'Bearer realm="polis"',
    header: "Authorization, X-API-Key",
    refusals,
    securitySchemes: {
      user: { type: "http", scheme: "bearer", bearerFormat: "JWT", description: "The access token that `/auth/sign-in` gives." },
      program: { type: "apiKey", in: "header", name: "X-API-Key", description: "A key that `/api-keys` gives, within its scopes." },
    },
  };
}

const refusals = {
  invalid_token: "The access token isn't one of ours, or was changed.",
  token_expired: "The access token is over: refresh it.",
  invalid_api_key: "The key isn't one of ours, was revoked, or is over.",
  token_revoked: "The access token was revoked: refresh it, or sign in again.",
};

const refused = (code: string, message: string): CallError => new CallError("UNAUTHENTICATED", code, message);

async function verifyToken(token: string, tokens: HeardTokens, clock: Clock): Promise<Known> {
  const verification = tokens.verification();
  if (verification === undefined)
    throw new CallError("UNAVAILABLE", "unavailable", "Tokens can't be verified yet; try again later.", { retryAfterMs: 1_000 });
  const { issuer, audience, keys } = verification;
  try {
    const { payload } = await jwtVerify(token, keys, {
      algorithms: ["ES256"],
      typ: "at+jwt",
      issuer,
      audience,
      requiredClaims: ["sub", "sid", "ver", "iat", "exp"],
      clockTolerance: SKEW_S,
      currentDate: new Date(clock()),
    });
    return knownOf(payload);
  } catch (error) {
    if (error instanceof errors.JWTExpired) throw refused("token_expired", refusals.token_expired);
    if (error instanceof errors.JOSEError) throw refused("invalid_token", refusals.invalid_token);
    throw error;
  }
}

/** What auth has signed has this shape. */
function knownOf({ sub = "", exp = 0, sid, ver, roles, mfa }: JWTPayload): Known {
  const sessionId = String(sid);
  const caller = Object.freeze(userCaller(sub, { roles: roles as string[], secondFactor: mfa === true, sessionId }));
  return { caller, userId: caller.userId, sessionId, version: Number(ver), expiresMs: exp * 1000 };
}
