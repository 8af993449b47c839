import { create } from "@bufbuild/protobuf";
import { HttpBodySchema } from "#contracts/google/api/httpbody_pb.ts";
import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { query } from "#platform/reads/query.ts";
import { signingKeys } from "./signing-keys.ts";

/** Who issues tokens, and where their keys are: what a library needs to verify them by the issuer's URL alone. */
export const getOpenidConfiguration = query(AuthService.method.getOpenidConfiguration, async (_, { use }) => {
  const { issuer } = use(signingKeys);
  const at = (path: string): string => `${issuer.replace(/\/$/, "")}${path}`;
  const configuration = {
    issuer,
    jwks_uri: at("/.well-known/jwks.json"),
    id_token_signing_alg_values_supported: ["ES256"],
    subject_types_supported: ["public"],
    response_types_supported: ["none"],
  };
  return create(HttpBodySchema, { contentType: "application/json", data: Buffer.from(JSON.stringify(configuration)) });
});
