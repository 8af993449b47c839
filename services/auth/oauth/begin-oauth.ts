import { timestampNow } from "@bufbuild/protobuf/wkt";
import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { query } from "#platform/reads/query.ts";
import { beginFlow } from "./flow.ts";

/** Begins a sign-in by a provider. */
export const beginOauth = query(AuthService.method.beginOauth, (request, context) => beginFlow(context, request, timestampNow()));
