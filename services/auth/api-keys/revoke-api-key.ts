import { create } from "@bufbuild/protobuf";
import { AuthService, RevokeApiKeyResponseSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { ApiKeyRevokedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { revoke } from "../sessions/session.ts";
import { apiKeys } from "../tables.ts";

/** Ends a key of the caller's; one that has ended stays so. */
export const revokeApiKey = operation(AuthService.method.revokeApiKey, {
  lock: ({ apiKeyId }) => apiKeys.row(apiKeyId),
  write(tx, { apiKeyId }, { locked: row, caller, now }) {
    const { userId } = requireUser(caller);
    if (row?.userId !== userId) return reject("not_found");
    if (row.revokedAt === undefined) {
      tx.update(apiKeys, { ...row, revokedAt: now });
      revoke(tx, { apiKeyId }, now);
      tx.publish(ApiKeyRevokedSchema, { userId, apiKeyId });
    }
    return create(RevokeApiKeyResponseSchema);
  },
});
