import * as oidc from "openid-client";
import { boundedFetch, REQUEST_MS } from "./bounded-fetch.ts";
import { type Identified, outsideUser, type Provider, ProviderAway } from "./provider.ts";
import { remembered } from "./remembered.ts";

type OidcFacts = {
  readonly name: string;
  readonly issuer: string;
  readonly clientId: string;
  readonly auth: oidc.ClientAuth;
  readonly redirectUri: string;
  readonly trustsEmail: boolean;
  /** What its authorization request says beside what all say. */
  readonly parameters?: Readonly<Record<string, string>>;
};

/** What a token's checks, and those of an answer, fail with: it is there, and isn't to be believed. */
const UNTRUSTED: ReadonlySet<string | undefined> = new Set([
  "OAUTH_INVALID_RESPONSE",
  "OAUTH_JWT_CLAIM_COMPARISON_FAILED",
  "OAUTH_JWT_TIMESTAMP_CHECK_FAILED",
  "OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED",
  "OAUTH_KEY_SELECTION_FAILED",
  "OAUTH_UNSUPPORTED_OPERATION",
]);

/** A provider of OpenID Connect, whose endpoints and keys are found by its issuer when it is first needed. */
export function oidcProvider(facts: OidcFacts): Provider {
  const { name, issuer, clientId, redirectUri, parameters } = facts;
  const discovered = remembered(async () => {
    try {
      return await oidc.discovery(new URL(issuer), clientId, undefined, facts.auth, {
        timeout: REQUEST_MS / 1000,
        [oidc.customFetch]: boundedFetch as oidc.CustomFetch,
        // The ID token's signature is looked at as well, though it comes from the provider itself over TLS.
        execute: [oidc.enableNonRepudiationChecks, ...(issuer.startsWith("http:") ? [oidc.allowInsecureRequests] : [])],
      });
    } catch (cause) {
      throw new ProviderAway(`${issuer} isn't found${answered(cause)}`, { cause });
    }
  });
  return {
    name,
    async authorizationUrl(state, { verifier, nonce }) {
      const url = oidc.buildAuthorizationUrl(await discovered(), {
        redirect_uri: redirectUri,
        scope: "openid email",
        state,
        nonce,
        code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
        code_challenge_method: "S256",
        ...parameters,
      });
      return url.href;
    },
    async identify({ state, code, iss }, { verifier, nonce }) {
      const config = await discovered();
      const url = new URL(redirectUri);
      for (const [key, value] of Object.entries({ state, code, iss })) if (value !== "") url.searchParams.set(key, value);
      try {
        const tokens = await oidc.authorizationCodeGrant(config, url, {
          expectedState: state,
          expectedNonce: nonce,
          pkceCodeVerifier: verifier,
        });
        return identified(facts, config, await claimsOf(config, tokens));
      } catch (error) {
        return failed(issuer, error);
      }
    },
  };
}

type Tokens = Awaited<ReturnType<typeof oidc.authorizationCodeGrant>>;

/** What the ID token says, and where it tells no address what the provider says if asked. */
async function claimsOf(config: oidc.Configuration, tokens: Tokens): Promise<Readonly<Record<string, unknown>>> {
  const claims = tokens.claims();
  // A nonce is expected, and so an ID token.
  if (claims === undefined) throw new Error("there is no ID token");
  if (claims.email !== undefined || config.serverMetadata().userinfo_endpoint === undefined) return claims;
  return { ...claims, ...(await oidc.fetchUserInfo(config, tokens.access_token, claims.sub)) };
}

function identified({ trustsEmail }: OidcFacts, config: oidc.Configuration, claims: Readonly<Record<string, unknown>>): Identified {
  const { sub, email, email_verified, locale } = claims;
  // Apple says it as a text.
  const isEmailVerified = trustsEmail || email_verified === true || email_verified === "true";
  const user = outsideUser(config.serverMetadata().issuer, { subject: sub, email, isEmailVerified, locale });
  return user === undefined ? { kind: "untrusted", why: "its `sub` isn't one" } : { kind: "user", user };
}

function failed(issuer: string, error: unknown): Identified {
  if (error instanceof oidc.AuthorizationResponseError) return { kind: "refused" };
  if (error instanceof oidc.ResponseBodyError && error.error === "invalid_grant") return { kind: "refused" };
  if (error instanceof Error && UNTRUSTED.has((error as { code?: string }).code)) return { kind: "untrusted", why: error };
  throw new ProviderAway(`${issuer} doesn't exchange a code${answered(error)}`, { cause: error });
}

/** What an operator needs to know of an answer: `invalid_client` is a wrong secret. */
function answered(error: unknown): string {
  if (error instanceof oidc.ResponseBodyError) return `, and answers ${error.status} ${error.error.slice(0, 100)}`;
  return error instanceof Error && error.cause instanceof Response ? `, and answers ${error.cause.status}` : "";
}

/** As RFC 7591 has it where nothing is said, and in the body where the provider takes it no other way. */
export const bySecret =
  (secret: string): oidc.ClientAuth =>
  (server, ...rest) => {
    const methods = server.token_endpoint_auth_methods_supported ?? ["client_secret_basic"];
    const way = methods.includes("client_secret_basic") ? oidc.ClientSecretBasic : oidc.ClientSecretPost;
    return way(secret)(server, ...rest);
  };
