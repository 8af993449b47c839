import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import type { ServerResponse } from "node:http";
import { CLIENT, listen } from "./outside.testing.ts";

/** How it lies in its next answer. */
export type Lie = {
  /** Over what the ID token says rightly. */
  readonly claims?: Readonly<Record<string, unknown>>;
  readonly header?: Readonly<Record<string, unknown>>;
  /** Signed by a key that isn't the provider's. */
  readonly isForged?: boolean;
  /** Instead of the answer to the exchange. */
  readonly exchange?: (answer: ServerResponse) => void;
  /** Instead of what tells where its endpoints are. */
  readonly discovery?: (answer: ServerResponse) => void;
  readonly userinfo?: Readonly<Record<string, unknown>>;
};

const [own, forged] = [0, 1].map(() => generateKeyPairSync("ec", { namedCurve: "P-256" }));

/** A provider that says whatever a test has it say, and takes any code; it signs in `user` with the nonce that was asked for last. */
export async function startLyingProvider() {
  let lie: Lie = {};
  let nonce = "";
  const exchanges: URLSearchParams[] = [];
  const asked: string[] = [];
  const { base: issuer } = await listen((base) => (request, response) => {
    const path = new URL(request.url ?? "/", base).pathname;
    asked.push(path);
    const send = (body: unknown): void => void response.setHeader("content-type", "application/json").end(JSON.stringify(body));
    let body = "";
    request.on("data", (chunk: Buffer) => {
      body += chunk.toString();
    });
    request.on("end", () => {
      switch (path) {
        case "/.well-known/openid-configuration":
          return lie.discovery === undefined ? send(metadataOf(base)) : lie.discovery(response);
        case "/jwks":
          return send({ keys: [{ ...own?.publicKey.export({ format: "jwk" }), kid: "own", use: "sig", alg: "ES256" }] });
        case "/token": {
          exchanges.push(new URLSearchParams(body));
          if (lie.exchange !== undefined) return lie.exchange(response);
          const claims = { ...claimsOf(base, nonce), ...lie.claims };
          const key = (lie.isForged ? forged : own)?.privateKey as KeyObject;
          return send({
            access_token: "x",
            token_type: "Bearer",
            id_token: tokenOf({ ...claims }, { alg: "ES256", kid: "own", ...lie.header }, key),
          });
        }
        default:
          return send(lie.userinfo ?? { sub: "user" });
      }
    });
  });
  return {
    issuer,
    exchanges,
    /** The paths that were asked for. */
    asked,
    /** What it says from now on. */
    says(next: Lie): void {
      lie = next;
    },
    /** The browser of its user comes, and is sent back with a code. */
    visit(authorizationUrl: string) {
      const { searchParams } = new URL(authorizationUrl);
      nonce = searchParams.get("nonce") ?? "";
      return { state: searchParams.get("state") ?? "", code: "any", iss: issuer };
    },
  };
}

const metadataOf = (issuer: string): object => ({
  issuer,
  authorization_endpoint: `${issuer}/authorize`,
  token_endpoint: `${issuer}/token`,
  userinfo_endpoint: `${issuer}/userinfo`,
  jwks_uri: `${issuer}/jwks`,
  response_types_supported: ["code"],
  subject_types_supported: ["public"],
  id_token_signing_alg_values_supported: ["ES256"],
  token_endpoint_auth_methods_supported: ["client_secret_post"],
  authorization_response_iss_parameter_supported: true,
});

function claimsOf(issuer: string, nonce: string): Record<string, unknown> {
  const now = Math.floor(Date.now() / 1000);
  const person = { sub: "user", email: "user@example.com", email_verified: true };
  return { iss: issuer, aud: CLIENT.clientId, iat: now, exp: now + 60, nonce, ...person };
}

function tokenOf(claims: object, header: { readonly alg: string; readonly kid: string }, key: KeyObject): string {
  const signed = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  const seal = header.alg === "none" ? "" : sign("sha256", Buffer.from(signed), { key, dsaEncoding: "ieee-p1363" }).toString("base64url");
  return `${signed}.${seal}`;
}
