import { create } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { AuthService, ListApiKeysResponseSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { page } from "#platform/reads/page.ts";
import { query } from "#platform/reads/query.ts";
import { apiKeys } from "../tables.ts";
import { isGood, toApiKey } from "./api-key.ts";

/** The caller's keys that are good, newest first. */
export const listApiKeys = query(AuthService.method.listApiKeys, async (request, { sql, caller }) => {
  const { userId } = requireUser(caller);
  const { rows, nextPageToken } = await page(sql, apiKeys, { where: { userId }, by: ["id"], newestFirst: true }, request);
  const good = rows.filter((row) => isGood(row, timestampNow()));
  return create(ListApiKeysResponseSchema, { apiKeys: good.map(toApiKey), nextPageToken });
});
