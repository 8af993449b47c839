import { create } from "@bufbuild/protobuf";
import { HttpBodySchema } from "#contracts/google/api/httpbody_pb.ts";
import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { query } from "#platform/reads/query.ts";
import { signingKeys } from "./signing-keys.ts";

/** The public keys, for whoever verifies tokens. */
export const getJwks = query(AuthService.method.getJwks, async (_, { use }) =>
  create(HttpBodySchema, { contentType: "application/jwk-set+json", data: Buffer.from(use(signingKeys).jwks()) }),
);
