import { create } from "@bufbuild/protobuf";
import { AuthService, ListOauthProvidersResponseSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { query } from "#platform/reads/query.ts";
import { providers } from "./providers.ts";

/** The names of the providers, for a page that lets its user choose. */
export const listOauthProviders = query(AuthService.method.listOauthProviders, async (_, { use }) =>
  create(ListOauthProvidersResponseSchema, { providers: [...use(providers).names] }),
);
