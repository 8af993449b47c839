import { create } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { AuthService, NewApiKeySchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { ApiKeyCreatedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { changeParams } from "../letters/change-params.ts";
import { tellOwner } from "../letters/letter.ts";
import { ownRows, ownSession } from "../sessions/own-rows.ts";
import { apiKeys } from "../tables.ts";
import { makeSecret, toApiKey } from "./api-key.ts";

/** Of one account. */
const KEYS_MAX = 100;

/** Makes a key; its secret is in the answer alone. */
export const createApiKey = operation(AuthService.method.createApiKey, {
  async prepare(_, { sql, caller, id }) {
    const { rows } = await sql.query<{ n: number }>({
      name: "api keys of user",
      text: "SELECT count(*)::int AS n FROM api_keys WHERE user_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())",
      values: [requireUser(caller).userId],
    });
    return { count: rows[0]?.n ?? 0, made: makeSecret(id) };
  },
  lock: (_, context) => ownRows(context),
  write(tx, { name, scopes, expiresAt }, { prepared: { count, made }, locked, caller, origin, id, now }) {
    if (count >= KEYS_MAX) return reject("too_many_keys");
    if (expiresAt !== undefined && timestampMs(expiresAt) <= timestampMs(now)) return reject("expires_in_the_past");
    const { userId } = requireUser(caller);
    // A key of a session that has ended since would outlive it.
    const own = ownSession(locked, now);
    if (own === undefined) return reject("no_session");
    const row = {
      id,
      userId,
      name,
      secretHash: made.secretHash,
      scopes: scopes.toSorted().join(" "),
      createdAt: now,
      expiresAt,
      lastUsedAt: undefined,
      revokedAt: undefined,
    };
    tx.insert(apiKeys, row);
    tx.publish(ApiKeyCreatedSchema, { userId, apiKeyId: id, scopes });
    // It outlives every session: whoever was in for a moment would stay in by it, unseen.
    tellOwner(tx, own.user, "api-key-created", changeParams(origin, now));
    return create(NewApiKeySchema, { key: made.key, apiKey: toApiKey(row) });
  },
});
